package main

import (
	"fmt"
	"math"
	"strconv"

	"github.com/spf13/pflag"
)

// optional is a flag whose value is nil when it was not given.
type optional[T int | float64 | string] struct {
	value **T
	kind  string
	parse func(string) (T, error)
}

func (o *optional[T]) String() string {
	if o.value == nil || *o.value == nil {
		return ""
	}
	return fmt.Sprint(**o.value)
}

// Set implements pflag.Value.
func (o *optional[T]) Set(text string) error {
	value, err := o.parse(text)
	if err != nil {
		return fmt.Errorf("it must be a %s", o.kind)
	}
	*o.value = &value
	return nil
}

// Type is the kind as the help shows it.
func (o *optional[T]) Type() string { return o.kind }

func optionalNumber(flags *pflag.FlagSet, into **int, name, usage string) {
	flags.Var(&optional[int]{into, "whole number", strconv.Atoi}, name, usage)
}

func optionalSeconds(flags *pflag.FlagSet, into **float64, name, usage string) {
	flags.Var(&optional[float64]{into, "number of seconds", func(text string) (float64, error) {
		number, err := strconv.ParseFloat(text, 64)
		if err == nil && (math.IsNaN(number) || math.IsInf(number, 0)) {
			err = strconv.ErrRange
		}
		return number, err //nolint:wrapcheck // Set says what it is
	}}, name, usage)
}

func optionalText(flags *pflag.FlagSet, into **string, name, usage string) {
	flags.Var(&optional[string]{into, "text", func(text string) (string, error) { return text, nil }}, name, usage)
}
