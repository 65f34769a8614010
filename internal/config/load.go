package config

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	koanfmaps "github.com/knadh/koanf/maps"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"

	"github.com/cyclonetix/cyclonetix/internal/spec"
)

// FileName is the file that is read from the working directory when no other is named.
const FileName = "config.yaml"

// Options say where the configuration comes from.
type Options struct {
	File    string         // what --config names, which must exist; empty: FileName, if there is one
	Flags   *pflag.FlagSet // parsed, with the flags of RegisterFlags; nil: none
	Environ []string       // as os.Environ returns it; nil: that
	Dir     string         // the working directory; empty: that of the process
}

// taskVariables are set for the commands of tasks, which may call this program.
var taskVariables = []string{
	"CYCLO_RUN_ID", "CYCLO_DAG_ID", "CYCLO_TASK_ID", "CYCLO_TASK_RUN_ID", "CYCLO_ATTEMPT", "CYCLO_QUEUE",
	"CYCLO_AGENT_ID", "CYCLO_LOGICAL_DATE", "CYCLO_EVAL_RESULT", "CYCLO_OUTPUT", "CYCLO_RUN_DIR",
	"CYCLO_TRIGGER", "CYCLO_TRIGGER_DAG_ID", "CYCLO_TRIGGER_RUN_ID", "CYCLO_TRIGGER_BODY", "CYCLO_TRIGGER_FILE",
}

// Load loads the configuration: what a flag sets wins over the environment, that over the file,
// and that over the default. An error is of type Errors and tells everything that is wrong; the
// configuration then has what could be read, for those who only look. The warnings are about settings that are fine and
// have no effect in this version.
func Load(o Options) (*Config, []Warning, error) {
	if o.Environ == nil {
		o.Environ = os.Environ()
	}
	variables := map[string]string{}
	for _, line := range o.Environ {
		if name, value, ok := strings.Cut(line, "="); ok {
			variables[name] = value
		}
	}

	file, used := fileLayer(o, variables)
	layers := []*layer{defaultLayer(), file, environmentLayer(variables, used), flagLayer(o.Flags)}

	k := koanf.New(".")
	c := &Config{Sources: map[string]string{}}
	places := map[string]place{}
	broken := map[string]bool{}
	var errs Errors
	for _, l := range layers {
		if err := k.Load(l, nil); err != nil {
			errs = append(errs, place{name: "configuration"}.errorf("%v", err))
		}
		maps.Copy(places, l.places)
		maps.Copy(broken, l.broken)
		errs = append(errs, l.errors...)
	}
	if err := k.Unmarshal("", c); err != nil {
		errs = append(errs, place{name: "configuration"}.errorf("%v", err))
	}
	for path, at := range places {
		c.Sources[path] = at.String()
	}

	wrong, doubtful := c.crossChecks()
	for _, f := range wrong {
		// A value that is wrong in itself was told; what follows from it is noise.
		if !slices.ContainsFunc(f.keys, func(path string) bool { return broken[path] }) {
			errs = append(errs, places[f.keys[0]].errorf("%s: %s", f.keys[0], f.text))
		}
	}
	doubts := warnings(layers[1:], places, doubtful)
	if len(errs) > 0 {
		sortErrors(errs)
		return c, doubts, errs
	}
	return c, doubts, nil
}

// warnings tells what was set in vain.
func warnings(layers []*layer, places map[string]place, doubtful []finding) []Warning {
	var all []Warning
	for _, k := range allKeys {
		set := slices.ContainsFunc(layers, func(l *layer) bool { _, ok := l.places[k.path]; return ok })
		if k.noEffect && set {
			all = append(all, Warning{places[k.path].String(), k.path + " has no effect yet"})
		}
	}
	for _, f := range doubtful {
		all = append(all, Warning{places[f.keys[0]].String(), f.keys[0] + " " + f.text})
	}
	return all
}

// Read and ReadBytes make a layer a provider of koanf.
func (l *layer) Read() (map[string]any, error) {
	return koanfmaps.Unflatten(l.values, "."), nil
}

// ReadBytes is the other half of a koanf provider, which a layer is not.
func (l *layer) ReadBytes() ([]byte, error) {
	return nil, errors.ErrUnsupported
}

func defaultLayer() *layer {
	l := newLayer()
	for _, k := range allKeys {
		if at := (place{name: "default"}); k.plain() {
			l.set(k, k.preset, k.preset, at)
		} else {
			l.places[k.path] = at
		}
	}
	return l
}

// fileLayer reads the file, and tells which variables its values named.
func fileLayer(o Options, variables map[string]string) (*layer, map[string]bool) {
	used := map[string]bool{}
	name := o.File
	if name == "" {
		name = FileName
	}
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(o.Dir, name)
	}
	if o.File == "" {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return newLayer(), used
		}
	}
	return readFile(path, name, func(name string) (string, bool) {
		used[name] = true
		value, ok := variables[name]
		return value, ok
	}), used
}

// environmentPrefix begins the names of the variables that set keys.
const environmentPrefix = "CYCLO_"

// environmentLayer reads the variables that begin with the prefix. Known are those of keys, those
// of tasks and tests, secrets, and those that the file names.
func environmentLayer(variables map[string]string, used map[string]bool) *layer {
	l := newLayer()
	known := byName(func(*key) bool { return true }, environmentName)
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		at := place{name: name}
		k := known[name]
		switch {
		case !strings.HasPrefix(name, environmentPrefix):
		case k != nil:
			l.set(k, variables[name], variables[name], at)
		case strings.HasPrefix(name, "CYCLO_TEST_"), strings.HasPrefix(name, spec.SecretVariables), slices.Contains(taskVariables, name), used[name]:
		default:
			hint := ""
			if near := nearestOf(name, slices.Sorted(maps.Keys(known))); near != "" {
				hint = " (did you mean " + near + "?)"
			}
			l.fail(nil, at.errorf("no setting has this variable%s", hint))
		}
	}
	return l
}

// flagLayer reads the flags that were given.
func flagLayer(flags *pflag.FlagSet) *layer {
	l := newLayer()
	if flags == nil {
		return l
	}
	known := byName((*key).plain, flagName)
	flags.Visit(func(f *pflag.Flag) {
		k := known[f.Name]
		if k == nil {
			return // another's
		}
		value := f.Value.String()
		if entries, ok := f.Value.(pflag.SliceValue); ok {
			value = strings.Join(entries.GetSlice(), ",")
		}
		l.set(k, value, value, place{name: "--" + f.Name})
	})
	return l
}

// byName is the keys that fit, by the names made of their paths, the old ones too.
func byName(fits func(*key) bool, name func(path string) string) map[string]*key {
	keys := map[string]*key{}
	for _, k := range allKeys {
		if !fits(k) {
			continue
		}
		keys[name(k.path)] = k
		if k.alias != "" {
			keys[name(k.alias)] = k
		}
	}
	return keys
}
