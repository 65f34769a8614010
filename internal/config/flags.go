package config

import (
	"strconv"

	"github.com/spf13/pflag"
)

// RegisterFlags adds a flag for every key that a flag can set. Those of keys without effect, and of
// old names, are hidden from the help.
func RegisterFlags(flags *pflag.FlagSet) {
	for _, k := range allKeys {
		if !k.plain() {
			continue
		}
		registerFlag(flags, k, flagName(k.path))
		if k.noEffect {
			_ = flags.MarkHidden(flagName(k.path)) // it exists
		}
		if k.alias != "" {
			registerFlag(flags, k, flagName(k.alias))
			_ = flags.MarkHidden(flagName(k.alias))
		}
	}
}

func registerFlag(flags *pflag.FlagSet, k *key, name string) {
	switch k.kind {
	case number:
		n, _ := strconv.Atoi(k.preset) // a test parses all defaults
		flags.Int(name, n, k.usage)
	case truth:
		flags.Bool(name, k.preset == "true", k.usage)
	case list:
		flags.StringSlice(name, splitList(k.preset), k.usage)
	case text:
		flags.String(name, k.preset, k.usage)
	case tables, lists: // not plain: only a file has them
	}
}
