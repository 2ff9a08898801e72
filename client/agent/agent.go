// Package agent lets other programs on the same machine use a device's client:
// a small HTTP API on a unix socket, or on loopback TCP with a bearer token, and
// its Go caller. docs/agent-api.md describes the API.
//
// Begin with [New] and [Server.Serve] on the serving side, [Dial] on the other.
//
// The socket is the door of choice: its file mode lets only its owner in. A
// loopback port is open to every user of the machine and to every web page in its
// browsers, so that there each request needs the token, a Host that is this
// machine (against DNS rebinding), and no Origin (against pages).
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/discreet-fl/discreet/client"
)

const (
	maxBody   = 64 << 10 // bytes of a request; the longest text to learn from has 4 KiB
	maxHeader = 16 << 10

	readTime  = 10 * time.Second
	writeTime = time.Minute // forgetting rewrites the folder's database
	idleTime  = time.Minute
	closeTime = 5 * time.Second // for requests in progress when the server ends
)

// Server answers the API for one client.
type Server struct {
	client *client.Client
	log    *slog.Logger
}

// New returns a server for a client, which stays the caller's to close. Nil logs
// nothing; texts and intents are never logged.
func New(c *client.Client, log *slog.Logger) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Server{client: c, log: log}
}

// Serve answers requests on a listener from [ListenSocket] or [ListenTCP] until ctx
// ends, and closes the listener. On anything but a unix socket every request needs
// the token, which must not be empty there; see [Token].
func (s *Server) Serve(ctx context.Context, listener net.Listener, token string) error {
	handler := s.routes()
	if address, ok := listener.Addr().(*net.TCPAddr); ok {
		if token == "" {
			return errors.Join(errors.New("agent: a TCP listener without a token, want one: every user of this machine could connect"), listener.Close())
		}
		handler = guardTCP(handler, address.Port, token)
	}
	server := &http.Server{
		Handler:     refuseOrigins(handler),
		ReadTimeout: readTime, ReadHeaderTimeout: readTime, WriteTimeout: writeTime, IdleTimeout: idleTime,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		grace, cancel := context.WithTimeout(context.Background(), closeTime)
		defer cancel()
		if server.Shutdown(grace) != nil {
			server.Close()
		}
	})
	s.log.Info("agent listening", "network", listener.Addr().Network(), "address", listener.Addr().String())
	err := server.Serve(listener)
	if !stop() { // ctx has ended: requests in progress are finished first
		<-closed
		return nil
	}
	return fmt.Errorf("agent: serving on %s: %w", listener.Addr(), err)
}

// routes is the API without its guards.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("POST /v1/classify", post(s, s.classify))
	mux.HandleFunc("POST /v1/explain", post(s, s.explain))
	mux.HandleFunc("POST /v1/learn", post(s, s.learn))
	mux.HandleFunc("POST /v1/forget", post(s, s.forget))
	mux.HandleFunc("POST /v1/participation", post(s, s.participation))
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
		status, err := s.client.Status()
		s.reply(w, status, err)
	})
	mux.HandleFunc("GET /v1/privacy", func(w http.ResponseWriter, _ *http.Request) {
		tasks, err := s.client.Privacy()
		s.reply(w, privacyReply{tasks}, err)
	})
	for path, method := range map[string]string{
		"/healthz": "GET", "/v1/status": "GET", "/v1/privacy": "GET",
		"/v1/classify": "POST", "/v1/explain": "POST", "/v1/learn": "POST", "/v1/forget": "POST", "/v1/participation": "POST",
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Allow", method)
			writeError(w, http.StatusMethodNotAllowed, "method", path+" wants "+method)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, http.StatusNotFound, "path", "there is no "+r.URL.Path+"; see docs/agent-api.md")
	})
	return mux
}

// The bodies of requests and replies.
type (
	classifyRequest struct {
		Text string `json:"text"`
		Top  *int   `json:"top,omitempty"` // nil means defaultTop
	}
	explainRequest struct {
		Text string `json:"text"`
	}
	learnRequest struct {
		Text         string        `json:"text"`
		Intent       string        `json:"intent"`
		Signal       client.Signal `json:"signal,omitempty"`
		Conversation string        `json:"conversation"`
	}
	learnReply struct {
		Chats int `json:"chats"`
	}
	forgetRequest struct {
		Conversation *string `json:"conversation"`
		All          bool    `json:"all"`
	}
	forgetReply struct {
		Forgotten int `json:"forgotten"`
	}
	privacyReply struct {
		Tasks []client.Given `json:"tasks"`
	}
	participationRequest struct {
		On *bool `json:"on"`
	}
	participationReply struct {
		Participation bool `json:"participation"`
	}
)

const defaultTop = 3

func (s *Server) classify(q classifyRequest) (client.Answer, error) {
	top := defaultTop
	if q.Top != nil {
		top = *q.Top
	}
	if top < 1 {
		return client.Answer{}, &Error{http.StatusBadRequest, "request", fmt.Sprintf("top is %d, want 1 or more", top)}
	}
	return s.client.Classify(q.Text, top)
}

func (s *Server) explain(q explainRequest) (client.Explanation, error) {
	return s.client.Explain(q.Text)
}

func (s *Server) learn(q learnRequest) (learnReply, error) {
	if err := s.client.Learn(client.Chat(q)); err != nil {
		return learnReply{}, err
	}
	status, err := s.client.Status()
	return learnReply{status.Chats}, err
}

func (s *Server) forget(q forgetRequest) (forgetReply, error) {
	if (q.Conversation != nil) == q.All {
		return forgetReply{}, &Error{http.StatusBadRequest, "request", `want either "conversation" or "all": true`}
	}
	if q.All {
		n, err := s.client.ForgetAll()
		return forgetReply{n}, err
	}
	n, err := s.client.Forget(*q.Conversation)
	return forgetReply{n}, err
}

func (s *Server) participation(q participationRequest) (participationReply, error) {
	if q.On == nil {
		return participationReply{}, &Error{http.StatusBadRequest, "request", `want "on": true or false`}
	}
	return participationReply{*q.On}, s.client.SetParticipation(*q.On)
}
