package spec

import (
	"math/big"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// scalarType is what a scalar of YAML is under the core schema of YAML 1.2.
type scalarType int

const (
	textScalar scalarType = iota
	nullScalar
	boolScalar
	numberScalar
	unwritableScalar // a number that JSON cannot write: NaN, the infinities, 1e999
	mistaggedScalar  // its explicit tag does not fit it, or is none that is known
)

const (
	maxDigits   = 1000 // of a number; more are an accident
	maxExponent = 400  // beyond what a float64 can hold
)

var (
	decimal = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE]([-+]?[0-9]+))?$`)
	special = regexp.MustCompile(`^([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$`)
)

const quotedStyles = yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle

// scalarOf gives the type of a scalar node, and its JSON text where it is a
// boolean or a number.
func scalarOf(node *yaml.Node) (scalarType, string) {
	if node.Style&yaml.TaggedStyle == 0 {
		if node.Style&quotedStyles != 0 || node.Tag == "!" {
			return textScalar, ""
		}
		return plainScalar(node.Value)
	}
	if node.Tag == "!!str" {
		return textScalar, ""
	}
	found, text := plainScalar(node.Value)
	switch {
	case node.Tag == "!!null" && found == nullScalar,
		node.Tag == "!!bool" && found == boolScalar,
		node.Tag == "!!int" && found == numberScalar && !strings.ContainsAny(text, ".eE"),
		node.Tag == "!!float" && (found == numberScalar || found == unwritableScalar):
		return found, text
	}
	return mistaggedScalar, ""
}

func plainScalar(text string) (scalarType, string) {
	switch text {
	case "", "~", "null", "Null", "NULL":
		return nullScalar, "null"
	case "true", "True", "TRUE":
		return boolScalar, "true"
	case "false", "False", "FALSE":
		return boolScalar, "false"
	}
	if strings.IndexByte("+-.0123456789", text[0]) < 0 {
		return textScalar, ""
	}
	if digits, ok := strings.CutPrefix(text, "0o"); ok {
		return basedInteger(digits, 8, "01234567")
	}
	if digits, ok := strings.CutPrefix(text, "0x"); ok {
		return basedInteger(digits, 16, "0123456789abcdefABCDEF")
	}
	if special.MatchString(text) {
		return unwritableScalar, ""
	}
	parts := decimal.FindStringSubmatch(text)
	if parts == nil {
		return textScalar, ""
	}
	return decimalNumber(parts[1], strings.HasPrefix(text, "-"), parts[3], parts[4])
}

func basedInteger(digits string, base int, allowed string) (scalarType, string) {
	if digits == "" || strings.Trim(digits, allowed) != "" {
		return textScalar, ""
	}
	if len(digits) > maxDigits {
		return unwritableScalar, ""
	}
	number, _ := new(big.Int).SetString(digits, base) // the digits were checked
	return numberScalar, number.String()
}

// decimalNumber writes a number in the way of JSON and keeps all its digits.
func decimalNumber(digits string, negative bool, exponent, power string) (scalarType, string) {
	if len(digits) > 1 && digits[0] == '0' && digits[1] != '.' {
		return textScalar, "" // 007: see the package's comment
	}
	if len(digits) > maxDigits {
		return unwritableScalar, ""
	}
	if power != "" {
		if size, err := strconv.Atoi(power); err != nil || size > maxExponent || size < -maxExponent {
			return unwritableScalar, ""
		}
	}
	if digits[0] == '.' {
		digits = "0" + digits
	}
	number := strings.TrimSuffix(digits, ".") + exponent
	if negative {
		number = "-" + number
	}
	return numberScalar, number
}
