package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strings"

	"github.com/discreet-fl/discreet/client"
)

// Error is a refusal as it goes over the API: {"error":{"code":…,"message":…}}.
type Error struct {
	Status  int    `json:"-"`       // of HTTP
	Code    string `json:"code"`    // one word, stable; docs/agent-api.md lists them
	Message string `json:"message"` // for a person
}

func (e *Error) Error() string { return e.Message }

// refusals are the client's errors with their place in the API.
var refusals = []struct {
	err    error
	status int
	code   string
}{
	{client.ErrText, http.StatusUnprocessableEntity, "text"},
	{client.ErrUnknownIntent, http.StatusUnprocessableEntity, "unknown_intent"},
	{client.ErrSignal, http.StatusUnprocessableEntity, "unknown_signal"},
	{client.ErrNoModel, http.StatusServiceUnavailable, "no_model"},
	{client.ErrFull, http.StatusInsufficientStorage, "disk_full"},
	{client.ErrClosed, http.StatusServiceUnavailable, "closing"},
}

// post turns a function into a handler: it reads one JSON body into the request and
// writes what the function returns.
func post[Request, Reply any](s *Server, f func(Request) (Reply, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var q Request
		if err := readJSON(w, r, &q); err != nil {
			s.reply(w, nil, err)
			return
		}
		reply, err := f(q)
		s.reply(w, reply, err)
	}
}

// readJSON reads a body of one JSON object with known fields only.
func readJSON(w http.ResponseWriter, r *http.Request, into any) error {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return &Error{http.StatusUnsupportedMediaType, "content_type", fmt.Sprintf("the content type is %.80q, want application/json", r.Header.Get("Content-Type"))}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
		return &Error{http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("the body is too large, want at most %d bytes", maxBody)}
	}
	if err == nil {
		err = decodeObject(body, into)
	}
	if err != nil {
		return &Error{http.StatusBadRequest, "request", "the body is not the JSON object this call wants: " + err.Error()}
	}
	return nil
}

// decodeObject decodes one JSON object with known fields only. Its errors are in JSON's words.
func decodeObject(body []byte, into any) error {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(body, &object); err != nil && !isType(err) {
		return err
	}
	if object == nil {
		return errors.New("it is another JSON value, want one in braces")
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
		return fmt.Errorf("%q is a JSON %s, want %s", wrong.Field, wrong.Value, kindOf(wrong.Type))
	}
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

// isType tells whether JSON was well formed, but of another type.
func isType(err error) bool {
	wrong := (*json.UnmarshalTypeError)(nil)
	return errors.As(err, &wrong)
}

// kindOf is what JSON calls a field's type.
func kindOf(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	}
	return "a string"
}

// reply writes a result, or the error in its place.
func (s *Server) reply(w http.ResponseWriter, result any, err error) {
	if err == nil {
		writeJSON(w, http.StatusOK, result)
		return
	}
	if refusal := (*Error)(nil); errors.As(err, &refusal) {
		writeError(w, refusal.Status, refusal.Code, refusal.Message)
		return
	}
	for _, known := range refusals {
		if errors.Is(err, known.err) {
			writeError(w, known.status, known.code, err.Error())
			return
		}
	}
	s.log.Error("request failed", "error", err)
	writeError(w, http.StatusInternalServerError, "internal", err.Error())
}

func writeError(w http.ResponseWriter, status int, code, message string) {
	writeJSON(w, status, map[string]*Error{"error": {Code: code, Message: message}})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false) // no page reads it
	e.Encode(body)         // an error is a caller who left
}
