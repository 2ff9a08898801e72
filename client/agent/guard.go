package agent

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// refuseOrigins refuses what a web page sends: a browser adds Origin to every
// request that could change something, and Sec-Fetch-Site to nearly every one. The
// API answers no page, not even one from this machine, and sets no CORS header.
func refuseOrigins(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		site := r.Header.Get("Sec-Fetch-Site")
		if len(r.Header.Values("Origin")) > 0 || site != "" && site != "none" {
			writeError(w, http.StatusForbidden, "origin", "this API does not answer web pages; call it from a program")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// guardTCP refuses requests whose Host is not this machine's loopback at the port,
// and those without the token. /healthz needs no token.
func guardTCP(next http.Handler, port int, token string) http.Handler {
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !loopbackHost(r.Host, port) {
			writeError(w, http.StatusForbidden, "host", fmt.Sprintf("the Host header is %.80q, want localhost:%d", r.Host, port))
			return
		}
		if r.URL.Path != "/healthz" {
			scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
			got := sha256.Sum256([]byte(given))
			if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
				w.Header().Set("WWW-Authenticate", "Bearer")
				writeError(w, http.StatusUnauthorized, "token", "want the header Authorization: Bearer with the token from the agent's token file")
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// loopbackHost tells whether a Host header names this machine at the port. A name
// that a page's owner could point here, however spelt, does not.
func loopbackHost(host string, port int) bool {
	name, number, err := net.SplitHostPort(host)
	if err != nil || number != strconv.Itoa(port) {
		return false
	}
	if strings.EqualFold(name, "localhost") {
		return true
	}
	ip := net.ParseIP(name)
	return ip != nil && ip.IsLoopback()
}

// Token reads the bearer token from a file that only its owner may read, and makes
// the file with a fresh one where there is none.
func Token(path string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeToken(path)
	}
	if err != nil {
		return "", fmt.Errorf("agent: token file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("agent: token file: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return "", fmt.Errorf("agent: token file %s has mode %v, so that others can read it; make a new one with mode 0600", path, mode)
	}
	buffer := make([]byte, 257)
	n, err := f.Read(buffer)
	token := strings.TrimSpace(string(buffer[:n]))
	if err != nil || len(token) < 32 || n == len(buffer) {
		return "", fmt.Errorf("agent: token file %s does not hold a token of 32 to 256 characters; remove it and a new one is made", path)
	}
	return token, nil
}

func makeToken(path string) (string, error) {
	b := make([]byte, 32)
	rand.Read(b)
	token := base64.RawURLEncoding.EncodeToString(b)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fmt.Errorf("agent: token file: %w", err)
	}
	_, err = f.WriteString(token + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("agent: token file: %w", err), os.Remove(path))
	}
	return token, nil
}
