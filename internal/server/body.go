package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/cyclonetix/cyclonetix/internal/api"
	"github.com/cyclonetix/cyclonetix/internal/nearest"
)

// readBody reads the JSON object of a request, and nothing else: an unknown field, a wrong type, or
// something after the object is an error that names it.
func readBody(c echo.Context, into any) error {
	body, err := bodyOf(c)
	if err != nil {
		return err
	}
	return decodeBody(body, into)
}

// readOptionalBody is readBody for a request that may have no body.
func readOptionalBody(c echo.Context, into any) error {
	body, err := bodyOf(c)
	if err != nil || len(bytes.TrimSpace(body)) == 0 {
		return err
	}
	return decodeBody(body, into)
}

// bodyOf gives the body of a request that has all it says there, and nothing in its query.
func bodyOf(c echo.Context) ([]byte, error) {
	if q := readQuery(c); q.err != nil {
		return nil, q.err
	}
	body, err := io.ReadAll(c.Request().Body)
	if err == nil {
		return body, nil
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, tooLarge(maxBody)
	}
	return nil, badRequest("", "the body of the request breaks off")
}

func decodeBody(body []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return explainJSON(err, into)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return badRequest("", "there is something after the JSON object in the body of the request")
	}
	if bytes.Equal(bytes.TrimSpace(body), []byte("null")) {
		return badRequest("", "the body of the request must be a JSON object, not null")
	}
	return nil
}

func explainJSON(err error, into any) error {
	var wrongType *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	known := fieldNames(reflect.TypeOf(into).Elem())
	switch {
	case errors.As(err, &wrongType) && wrongType.Field == "":
		return badRequest("", fmt.Sprintf("the body of the request must be a JSON object, not %s", withArticle(wrongType.Value)))
	case errors.As(err, &wrongType):
		field := outerName(wrongType.Field, known)
		return badRequest(field, fmt.Sprintf("%s must be %s, not %s", field, typeName(wrongType.Type), withArticle(wrongType.Value)))
	case errors.As(err, &syntax):
		return badRequest("", fmt.Sprintf("the body of the request is not JSON: %s at byte %d", syntax, syntax.Offset))
	case errors.Is(err, io.EOF):
		return badRequest("", "the body of the request is empty; it must be a JSON object")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return badRequest("", "the body of the request is not JSON: it breaks off")
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return unknownField(strings.Trim(name, `"`), known)
	}
	return badRequest("", "the body of the request cannot be read: "+err.Error())
}

// unknownField names the known fields that are most like the unknown one.
func unknownField(name string, known []string) error {
	near := nearest.Names(name, slices.Values(known))
	message := fmt.Sprintf("unknown field %q", name)
	if len(near) > 0 {
		message += fmt.Sprintf(": did you mean %q?", near[0])
	}
	return &api.Error{
		Status: http.StatusBadRequest, Code: api.CodeBadRequest, Message: message,
		Details: &api.Details{Field: name, Nearest: near, Allowed: known},
	}
}

// fieldNames are the JSON names of a struct's fields, those of embedded structs included.
func fieldNames(of reflect.Type) []string {
	var names []string
	for _, field := range reflect.VisibleFields(of) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
}

// outerName leaves out the names of embedded structs, which encoding/json puts before a field's.
func outerName(path string, known []string) string {
	parts := strings.Split(path, ".")
	for i, part := range parts {
		if slices.Contains(known, part) {
			return strings.Join(parts[i:], ".")
		}
	}
	return path
}

func typeName(of reflect.Type) string {
	switch of.Kind() {
	case reflect.Pointer:
		return typeName(of.Elem())
	case reflect.Map, reflect.Struct:
		return "an object"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	default:
		return "a string"
	}
}

func withArticle(value string) string {
	switch {
	case value == "bool":
		return "true or false"
	case value == "array":
		return "a list"
	case strings.HasPrefix(value, "number "): // one that does not fit
		return strings.TrimPrefix(value, "number ")
	case value == "object":
		return "an object"
	}
	return "a " + value
}

// strictJSON writes answers without escaping what only HTML would need.
type strictJSON struct{}

func (strictJSON) Serialize(c echo.Context, value any, indent string) error {
	encoder := json.NewEncoder(c.Response())
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", indent)
	return encoder.Encode(value)
}

func (strictJSON) Deserialize(c echo.Context, into any) error { return readBody(c, into) }
