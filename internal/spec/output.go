package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cyclonetix/cyclonetix/internal/workflow"
)

// MaxOutputBytes bounds what a task may write to $CYCLO_OUTPUT.
const MaxOutputBytes = 256 << 10

// maxDataDepth bounds the levels of values in values in what a task gives.
const maxDataDepth = 100

// ParseOutput reads what a task wrote to $CYCLO_OUTPUT: a JSON object, or lines KEY=VALUE, whose values are texts;
// later lines win, and empty ones and those that begin with # count for nothing. The output is a JSON object, or empty where
// there is nothing. The error says what is wrong, and shows no value.
func ParseOutput(written []byte) (workflow.Value, error) {
	written = bytes.TrimSpace(written)
	switch {
	case len(written) == 0:
		return "", nil
	case written[0] == '{':
		object, err := decodeObject(written)
		if err != nil {
			return "", err
		}
		return dataValue(object)
	}
	output := make(map[string]any)
	err := eachLine(written, func(number int, key, value string) error {
		if !parameterName.MatchString(key) {
			return fmt.Errorf("line %d has no valid key: it takes letters, digits, _ . and -, and begins with a letter or _", number)
		}
		output[key] = value
		return nil
	})
	if err != nil {
		return "", err
	}
	if len(output) == 0 {
		return "", nil
	}
	return dataValue(output)
}

// eachLine calls read for each line KEY=VALUE.
func eachLine(written []byte, read func(number int, key, value string) error) error {
	for i, line := range strings.Split(string(written), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if text := strings.TrimSpace(line); text == "" || text[0] == '#' {
			continue
		}
		key, value, found := strings.Cut(line, "=")
		if !found {
			return fmt.Errorf("it is no JSON object, and line %d is not KEY=VALUE", i+1)
		}
		if err := read(i+1, strings.TrimSpace(key), value); err != nil {
			return err
		}
	}
	return nil
}

// decodeObject reads a text that is one JSON object.
func decodeObject(text []byte) (map[string]any, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("it is not UTF-8")
	}
	content, err := decodeValue(workflow.Value(text))
	if err != nil {
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			return nil, fmt.Errorf("it is not valid JSON, at byte %d", syntax.Offset)
		}
		return nil, errors.New("it is not valid JSON: it ends too soon, or something follows")
	}
	object, ok := content.(map[string]any)
	if !ok {
		return nil, errors.New("it is not a JSON object")
	}
	return object, nil
}

// dataValue is decoded JSON that came from a task as a value, checked to be of a kind that can be stored anywhere.
func dataValue(content any) (workflow.Value, error) {
	if err := checkData(content, 0); err != nil {
		return "", err
	}
	text, err := json.Marshal(content)
	if err != nil {
		return "", errNotJSON
	}
	return workflow.Value(text), nil
}

func checkData(content any, depth int) error {
	if depth > maxDataDepth {
		return fmt.Errorf("it has more than %d levels of values in values", maxDataDepth)
	}
	switch content := content.(type) {
	case string:
		return checkDataText(content)
	case json.Number:
		return checkNumber(content.String())
	case []any:
		for _, item := range content {
			if err := checkData(item, depth+1); err != nil {
				return err
			}
		}
	case map[string]any:
		for key, item := range content {
			if err := checkDataText(key); err != nil {
				return err
			}
			if err := checkData(item, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkDataText(text string) error {
	switch {
	case strings.IndexByte(text, 0) >= 0:
		return errors.New("it holds a NUL character")
	case !utf8.ValidString(text):
		return errors.New("it is not UTF-8")
	default:
		return nil
	}
}

// checkNumber refuses numbers that others can't read: databases and languages differ in how large one may be.
func checkNumber(text string) error {
	const most = 1000
	mantissa, _, _ := strings.Cut(strings.ToLower(text), "e")
	number, err := strconv.ParseFloat(text, 64)
	if err != nil || len(text) > most || number == 0 && strings.ContainsAny(mantissa, "123456789") {
		return errors.New("it holds a number that is out of range: write it as text")
	}
	return nil
}
