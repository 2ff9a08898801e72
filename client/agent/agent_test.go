package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/discreet-fl/discreet/client"
	"github.com/discreet-fl/discreet/client/store"
	"github.com/discreet-fl/discreet/model"
)

// device opens a client whose folder holds a checkpoint with two intents.
func device(t *testing.T) (dir string, c *client.Client) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "d")
	layout, err := model.NewLayout("small", 2)
	if err != nil {
		t.Fatal(err)
	}
	params := layout.Init(1)
	params[len(params)-1] = 3 // a bias, so that the second intent wins
	checkpoint, err := model.NewCheckpoint("shop", "small", 7, []string{"greeting", "parcel"}, params)
	if err != nil {
		t.Fatal(err)
	}
	file := checkpoint.Encode()
	sum := sha256.Sum256(file)
	s, err := store.Open(dir, store.Options{MaxChats: 1, MaxCheckpoint: client.MaxCheckpointBytes})
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.Download(sum, int64(len(file)))
	if err == nil {
		err = d.Append(file)
	}
	if err == nil {
		_, err = d.Finish()
	}
	name, _ := json.Marshal(hex.EncodeToString(sum[:]))
	if err := errors.Join(err, s.PutRecord("model", name), s.Close()); err != nil {
		t.Fatal(err)
	}
	if c, err = client.Open(dir, client.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return dir, c
}

// serve runs a server until the test ends.
func serve(t *testing.T, c *client.Client, listener net.Listener, token string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- New(c, nil).Serve(ctx, listener, token) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestCaller(t *testing.T) {
	dir, c := device(t)
	if _, err := Dial(t.Context(), dir); !errors.Is(err, ErrNoAgent) {
		t.Fatalf("without an agent: %v", err)
	}
	listener, err := ListenSocket(SocketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	serve(t, c, listener, "")
	a, err := Dial(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	answer, err := a.Classify(t.Context(), "where is my parcel", 1)
	guesses := answer.Intents
	if err != nil || answer.Unknown || answer.Model != client.Shared || len(guesses) != 1 || guesses[0].Intent != "parcel" || guesses[0].Confidence < 0.9 {
		t.Errorf("guesses %v, %v", guesses, err)
	}
	e, err := a.Explain(t.Context(), "where is my parcel")
	if err != nil || e.Answer != guesses[0] || e.Model != client.Shared || len(e.Words) != 4 || len(e.Parts) == 0 {
		t.Errorf("explanation %+v, %v, want one of %v", e, err, guesses[0])
	}
	sum := e.Bias
	for _, w := range e.Words {
		sum += w.Share
	}
	if math.Abs(sum-e.LogOdds) > 1e-9 {
		t.Errorf("the words' shares and the bias sum to %v, want %v", sum, e.LogOdds)
	}
	for _, conversation := range []string{"anna", "anna", "ben", ""} {
		if err := a.Learn(t.Context(), client.Chat{Text: "hello", Intent: "greeting", Signal: client.Corrected, Conversation: conversation}); err != nil {
			t.Fatal(err)
		}
	}
	var refusal *Error
	if err := a.Learn(t.Context(), client.Chat{Text: "hello", Intent: "greetin"}); !errors.As(err, &refusal) || refusal.Code != "unknown_intent" || !strings.Contains(err.Error(), `"greeting"`) {
		t.Errorf("unknown intent: %v", err)
	}
	if err := a.Learn(t.Context(), client.Chat{Text: "hello", Intent: "greeting", Signal: "maybe"}); !errors.As(err, &refusal) || refusal.Code != "unknown_signal" {
		t.Errorf("unknown signal: %v", err)
	}
	if err := a.SetParticipation(t.Context(), false); err != nil {
		t.Error(err)
	}
	want, err := c.Status()
	if err != nil {
		t.Fatal(err)
	}
	if s, err := a.Status(t.Context()); err != nil || s != want || s.Chats != 4 || s.Participation || s.Round != 7 {
		t.Errorf("status %+v, %v, want %+v", s, err, want)
	}
	if given, err := a.Privacy(t.Context()); err != nil || given == nil || len(given) != 0 {
		t.Errorf("a device that took part in nothing has given away %+v, %v", given, err)
	}
	if n, err := a.Forget(t.Context(), "anna"); n != 2 || err != nil {
		t.Errorf("forgot %d, %v, want 2", n, err)
	}
	if n, err := a.Forget(t.Context(), ""); n != 1 || err != nil {
		t.Errorf("forgot %d without a conversation, %v, want 1", n, err)
	}
	if n, err := a.ForgetAll(t.Context()); n != 1 || err != nil {
		t.Errorf("forgot %d, %v, want 1", n, err)
	}
}

// TestRequests sends good and bad requests over loopback TCP, the stricter of the
// two doors, among them what a web page or a name pointed at this machine could send.
func TestRequests(t *testing.T) {
	dir, c := device(t)
	token, err := Token(TokenPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := ListenTCP("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, c, listener, token)
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	const classify, good = "/v1/classify", `{"text":"where is my parcel"}`
	for _, r := range []struct {
		name, method, path, body string
		header                   map[string]string // "" removes one; Host is the request's
		status                   int
		code                     string
		message                  string // in the reply
	}{
		{name: "classify", path: classify, body: good, status: 200},
		{name: "top", path: classify, body: `{"text":"x","top":1}`, status: 200},
		{name: "content type with charset", path: classify, body: good, header: map[string]string{"Content-Type": "application/json; charset=utf-8"}, status: 200},
		{name: "health without token", method: "GET", path: "/healthz", header: map[string]string{"Authorization": ""}, status: 200},
		{name: "localhost", path: classify, body: good, header: map[string]string{"Host": "LOCALHOST:" + port}, status: 200},
		{name: "other loopback", path: classify, body: good, header: map[string]string{"Host": "[::1]:" + port}, status: 200},

		{name: "no token", path: classify, body: good, header: map[string]string{"Authorization": ""}, status: 401, code: "token"},
		{name: "wrong token", path: classify, body: good, header: map[string]string{"Authorization": "Bearer " + strings.Repeat("A", 43)}, status: 401, code: "token"},
		{name: "token as a password", path: classify, body: good, header: map[string]string{"Authorization": "Basic " + token}, status: 401, code: "token"},
		{name: "empty token", path: classify, body: good, header: map[string]string{"Authorization": "Bearer "}, status: 401, code: "token"},
		{name: "no token for status", method: "GET", path: "/v1/status", header: map[string]string{"Authorization": ""}, status: 401, code: "token"},

		{name: "rebound name", path: classify, body: good, header: map[string]string{"Host": "evil.example:" + port}, status: 403, code: "host"},
		{name: "rebound name that looks local", path: classify, body: good, header: map[string]string{"Host": "localhost.evil.example:" + port}, status: 403, code: "host"},
		{name: "address within a name", path: classify, body: good, header: map[string]string{"Host": "127.0.0.1.evil.example:" + port}, status: 403, code: "host"},
		{name: "another port", path: classify, body: good, header: map[string]string{"Host": "127.0.0.1:1"}, status: 403, code: "host"},
		{name: "no port", path: classify, body: good, header: map[string]string{"Host": "localhost"}, status: 403, code: "host"},
		{name: "unspecified address", path: classify, body: good, header: map[string]string{"Host": "0.0.0.0:" + port}, status: 403, code: "host"},
		{name: "rebound health check", method: "GET", path: "/healthz", header: map[string]string{"Host": "evil.example:" + port}, status: 403, code: "host"},

		{name: "a page's origin", path: classify, body: good, header: map[string]string{"Origin": "https://evil.example"}, status: 403, code: "origin"},
		{name: "a local page's origin", path: classify, body: good, header: map[string]string{"Origin": "http://127.0.0.1:" + port}, status: 403, code: "origin"},
		{name: "a file's origin", path: classify, body: good, header: map[string]string{"Origin": "null"}, status: 403, code: "origin"},
		{name: "cross-site fetch", method: "GET", path: "/v1/status", header: map[string]string{"Sec-Fetch-Site": "cross-site"}, status: 403, code: "origin"},
		{name: "a preflight", method: "OPTIONS", path: classify, header: map[string]string{"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}, status: 403, code: "origin"},
		{name: "a form", path: "/v1/forget", body: `{"all":true}`, header: map[string]string{"Content-Type": "text/plain"}, status: 415, code: "content_type"},
		{name: "no content type", path: classify, body: good, header: map[string]string{"Content-Type": ""}, status: 415, code: "content_type"},

		{name: "not JSON", path: classify, body: `text=hello`, status: 400, code: "request"},
		{name: "nothing", path: classify, status: 400, code: "request", message: "unexpected end of JSON input"},
		{name: "null", path: classify, body: `null`, status: 400, code: "request", message: "it is another JSON value, want one in braces"},
		{name: "a list", path: classify, body: `["x"]`, status: 400, code: "request", message: "it is another JSON value, want one in braces"},
		{name: "top in words", path: classify, body: `{"text":"x","top":"one"}`, status: 400, code: "request", message: `wants: "top" is a JSON string, want a whole number`},
		{name: "half a top", path: classify, body: `{"text":"x","top":1.5}`, status: 400, code: "request", message: `wants: "top" is a JSON number 1.5, want a whole number`},
		{name: "top of none", path: classify, body: `{"text":"x","top":0}`, status: 400, code: "request", message: "top is 0, want 1 or more"},
		{name: "all in words", path: "/v1/forget", body: `{"all":"yes"}`, status: 400, code: "request", message: `wants: "all" is a JSON string, want true or false`},
		{name: "two values", path: classify, body: good + good, status: 400, code: "request"},
		{name: "trailing garbage", path: classify, body: good + "x", status: 400, code: "request"},
		{name: "unknown field", path: classify, body: `{"text":"x","topp":1}`, status: 400, code: "request", message: `wants: unknown field "topp"`},
		{name: "wrong type", path: classify, body: `{"text":1}`, status: 400, code: "request", message: `wants: "text" is a JSON number, want a string`},
		{name: "negative top", path: classify, body: `{"text":"x","top":-1}`, status: 400, code: "request"},
		{name: "empty text", path: classify, body: `{"text":""}`, status: 422, code: "text"},
		{name: "large body", path: classify, body: `{"text":"` + strings.Repeat("x", maxBody) + `"}`, status: 413, code: "too_large"},
		{name: "long text to learn", path: "/v1/learn", body: `{"text":"` + strings.Repeat("x", 5000) + `","intent":"parcel"}`, status: 422, code: "text"},
		{name: "unknown intent", path: "/v1/learn", body: `{"text":"x","intent":"parcels"}`, status: 422, code: "unknown_intent"},
		{name: "no intent", path: "/v1/learn", body: `{"text":"x"}`, status: 422, code: "unknown_intent", message: "unknown intent: none is named; name the one that the text has, or give the signal handed_over"},
		{name: "forget nothing", path: "/v1/forget", body: `{}`, status: 400, code: "request"},
		{name: "forget both", path: "/v1/forget", body: `{"conversation":"a","all":true}`, status: 400, code: "request"},
		{name: "participation of nobody", path: "/v1/participation", body: `{}`, status: 400, code: "request"},
		{name: "wrong method", method: "GET", path: classify, status: 405, code: "method"},
		{name: "wrong method for status", path: "/v1/status", body: `{}`, status: 405, code: "method"},
		{name: "no such path", method: "GET", path: "/v1/chats", status: 404, code: "path"},
	} {
		t.Run(r.name, func(t *testing.T) {
			if r.method == "" {
				r.method = "POST"
			}
			q, err := http.NewRequestWithContext(t.Context(), r.method, "http://"+listener.Addr().String()+r.path, strings.NewReader(r.body))
			if err != nil {
				t.Fatal(err)
			}
			q.Header.Set("Authorization", "Bearer "+token)
			q.Header.Set("Content-Type", "application/json")
			for name, value := range r.header {
				switch {
				case name == "Host":
					q.Host = value
				case value == "":
					q.Header.Del(name)
				default:
					q.Header.Set(name, value)
				}
			}
			reply, err := http.DefaultTransport.RoundTrip(q)
			if err != nil {
				t.Fatal(err)
			}
			defer reply.Body.Close()
			body, err := io.ReadAll(reply.Body)
			if err != nil {
				t.Fatal(err)
			}
			var got struct{ Error Error }
			if err := json.Unmarshal(body, &got); err != nil {
				t.Fatalf("%q: %v", body, err)
			}
			if reply.StatusCode != r.status || got.Error.Code != r.code || r.code != "" && got.Error.Message == "" || !strings.Contains(got.Error.Message, r.message) {
				t.Errorf("got %d, %s, want %d with code %q and %q", reply.StatusCode, body, r.status, r.code, r.message)
			}
			for name := range reply.Header {
				if strings.HasPrefix(name, "Access-Control") {
					t.Errorf("the reply lets pages in: %s", name)
				}
			}
		})
	}
	if s, err := c.Status(); err != nil || s.Chats != 0 || !s.Participation {
		t.Errorf("a refused request changed something: %+v, %v", s, err)
	}
}

func TestNoModelYet(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	c, err := client.Open(dir, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	listener, err := ListenSocket(SocketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	serve(t, c, listener, "")
	a, err := Dial(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var refusal *Error
	if _, err := a.Classify(t.Context(), "hello", 1); !errors.As(err, &refusal) || refusal.Code != "no_model" || refusal.Status != http.StatusServiceUnavailable {
		t.Errorf("got %v", err)
	}
}

func TestSocket(t *testing.T) {
	dir, c := device(t)
	path := SocketPath(dir)
	listener, err := ListenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); runtime.GOOS != "windows" && (err != nil || info.Mode().Perm() != 0o600) {
		t.Errorf("the socket has mode %v, %v, want 0600", info.Mode(), err)
	}
	// A killed agent leaves its file behind.
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	listener.Close()
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(t.Context(), dir); !errors.Is(err, ErrNoAgent) {
		t.Errorf("a stale socket: %v, want ErrNoAgent", err)
	}
	if listener, err = ListenSocket(path); err != nil {
		t.Fatalf("a stale socket is in the way: %v", err)
	}
	serve(t, c, listener, "")
	if _, err := ListenSocket(path); err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("a socket in use: %v", err)
	}
	if _, err := ListenSocket(filepath.Join(dir, strings.Repeat("x", 100))); err == nil || !strings.Contains(err.Error(), "at most 103") {
		t.Errorf("a long path: %v", err)
	}
	file := filepath.Join(dir, "notes")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenSocket(file); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("a file in the way: %v", err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file became %q, %v", b, err)
	}
}

func TestTCPNeedsLoopbackAndToken(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "nonsense"} {
		if l, err := ListenTCP(addr); err == nil {
			l.Close()
			t.Errorf("%s: listening", addr)
		}
	}
	_, c := device(t)
	listener, err := ListenTCP("localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ListenTCP(listener.Addr().String()); err == nil || !strings.Contains(err.Error(), "choose another port") {
		t.Errorf("a port in use: %v", err)
	}
	if err := New(c, nil).Serve(t.Context(), listener, ""); err == nil || !strings.Contains(err.Error(), "token") {
		t.Errorf("served without a token: %v", err)
	}
}

func TestToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	first, err := Token(path)
	if err != nil || len(first) < 40 {
		t.Fatalf("%q, %v", first, err)
	}
	if again, err := Token(path); err != nil || again != first {
		t.Errorf("read again: %q, %v, want %q", again, err, first)
	}
	if info, err := os.Stat(path); runtime.GOOS != "windows" && (err != nil || info.Mode().Perm() != 0o600) {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if runtime.GOOS != "windows" {
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Token(path); err == nil || !strings.Contains(err.Error(), "others can read it") {
			t.Errorf("a token for everybody: %v", err)
		}
	}
	for name, content := range map[string][]byte{"empty": nil, "short": []byte("secret\n"), "long": bytes.Repeat([]byte("x"), 300)} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Token(path); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
