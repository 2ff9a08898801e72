package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/discreet-fl/discreet/client"
)

// ErrNoAgent is returned by Dial where no agent listens; the folder may then be opened
// directly.
var ErrNoAgent = errors.New("no agent is running")

// callTime bounds a call; forgetting may rewrite a large folder.
const callTime = writeTime

// Caller speaks to a running agent over its socket.
type Caller struct {
	http *http.Client
}

// Dial finds the agent of a device's folder, [ErrNoAgent] where none runs.
func Dial(ctx context.Context, dir string) (*Caller, error) {
	return DialSocket(ctx, SocketPath(dir))
}

// DialSocket finds the agent that listens on a socket, [ErrNoAgent] where none does.
func DialSocket(ctx context.Context, path string) (*Caller, error) {
	c := &Caller{http: &http.Client{Timeout: callTime, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", path)
		},
		Proxy: nil, // a proxy would read the chats
	}}}
	err := c.call(ctx, http.MethodGet, "/healthz", nil, nil)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		err = fmt.Errorf("agent: %w on %s", ErrNoAgent, path)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close gives the connection back.
func (c *Caller) Close() { c.http.CloseIdleConnections() }

// Classify is [client.Client.Classify].
func (c *Caller) Classify(ctx context.Context, text string, n int) (client.Answer, error) {
	var answer client.Answer
	err := c.call(ctx, http.MethodPost, "/v1/classify", classifyRequest{text, &n}, &answer)
	return answer, err
}

// Explain is [client.Client.Explain].
func (c *Caller) Explain(ctx context.Context, text string) (client.Explanation, error) {
	var e client.Explanation
	err := c.call(ctx, http.MethodPost, "/v1/explain", explainRequest{text}, &e)
	return e, err
}

// Learn is [client.Client.Learn].
func (c *Caller) Learn(ctx context.Context, chat client.Chat) error {
	return c.call(ctx, http.MethodPost, "/v1/learn", learnRequest(chat), nil)
}

// Status is [client.Client.Status].
func (c *Caller) Status(ctx context.Context) (client.Status, error) {
	var status client.Status
	err := c.call(ctx, http.MethodGet, "/v1/status", nil, &status)
	return status, err
}

// Privacy is [client.Client.Privacy].
func (c *Caller) Privacy(ctx context.Context) ([]client.Given, error) {
	var reply privacyReply
	err := c.call(ctx, http.MethodGet, "/v1/privacy", nil, &reply)
	return reply.Tasks, err
}

// Forget is [client.Client.Forget].
func (c *Caller) Forget(ctx context.Context, conversation string) (int, error) {
	return c.forget(ctx, forgetRequest{Conversation: &conversation})
}

// ForgetAll is [client.Client.ForgetAll].
func (c *Caller) ForgetAll(ctx context.Context) (int, error) {
	return c.forget(ctx, forgetRequest{All: true})
}

func (c *Caller) forget(ctx context.Context, q forgetRequest) (int, error) {
	var reply forgetReply
	err := c.call(ctx, http.MethodPost, "/v1/forget", q, &reply)
	return reply.Forgotten, err
}

// SetParticipation is [client.Client.SetParticipation].
func (c *Caller) SetParticipation(ctx context.Context, on bool) error {
	return c.call(ctx, http.MethodPost, "/v1/participation", participationRequest{&on}, nil)
}

// call makes one request. A refusal comes back as *[Error].
func (c *Caller) call(ctx context.Context, method, path string, body, into any) error {
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("agent: %w", err)
		}
		content = bytes.NewReader(b)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, content)
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	reply, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("agent: calling the running agent: %w", err)
	}
	defer reply.Body.Close()
	b, err := io.ReadAll(io.LimitReader(reply.Body, 8<<20)) // thousands of intents with long names
	if err != nil {
		return fmt.Errorf("agent: calling the running agent: %w", err)
	}
	if reply.StatusCode != http.StatusOK {
		refusal := struct{ Error *Error }{}
		if json.Unmarshal(b, &refusal) != nil || refusal.Error == nil {
			return fmt.Errorf("agent: the running agent answered %s", reply.Status)
		}
		refusal.Error.Status = reply.StatusCode
		return refusal.Error
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("agent: the running agent's answer: %w", err)
	}
	return nil
}
