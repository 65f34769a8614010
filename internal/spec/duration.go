package spec

import (
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v4"
)

// durationPattern is a span of time with its unit: 30m, 12h, 7d, 1d12h.
const durationPattern = `^([0-9]{1,12}[smhdw])+$`

var (
	durationForm = regexp.MustCompile(durationPattern)
	durationPart = regexp.MustCompile(`([0-9]+)([smhdw])`)
	unitSeconds  = map[string]float64{"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
)

// duration is a span of time in seconds: a number of them, or a text with units.
func (v value) duration() float64 {
	if v.isText() && durationForm.MatchString(v.node.Value) {
		return v.unitSeconds()
	}
	if v.node.Kind == yaml.ScalarNode {
		if found, _ := scalarOf(v.node); found == numberScalar {
			return v.seconds()
		}
	}
	v.wrong("a duration such as 30m, 12h or 7d, or a number of seconds")
	return 0
}

func (v value) unitSeconds() (seconds float64) {
	for _, part := range durationPart.FindAllStringSubmatch(v.node.Value, -1) {
		number, _ := strconv.ParseFloat(part[1], 64) // the pattern has seen to it
		seconds += number * unitSeconds[part[2]]
	}
	if seconds > maxSeconds {
		v.problem("%s must be from 0 to %d seconds, not %s", v.what, maxSeconds, cut(v.node.Value))
		return 0
	}
	return seconds
}
