package ca

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/discreet-fl/discreet/secagg"
)

func open(t *testing.T, dir string, hosts ...string) *Authority {
	t.Helper()
	a, err := Open(dir, hosts, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// device issues a certificate for a fresh key.
func device(t *testing.T, a *Authority) (tls.Certificate, secagg.ID) {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := a.Issue(public, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := secagg.VerifyCredential(a.PublicKey(), public, issued.Credential); err != nil {
		t.Errorf("the credential: %v", err)
	}
	return tls.Certificate{Certificate: [][]byte{issued.Certificate}, PrivateKey: key}, secagg.DeviceID(public)
}

// shake runs one TLS handshake over a pipe and one byte each way, and returns what
// the server saw.
func shake(t *testing.T, server, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	a, b := net.Pipe()
	served, dialled := tls.Server(a, server), tls.Client(b, client)
	defer func() {
		if err := errors.Join(a.Close(), b.Close()); err != nil {
			t.Error(err)
		}
	}()
	failed := make(chan error, 1)
	go func() {
		err := served.HandshakeContext(context.Background())
		if err == nil {
			_, err = served.Write([]byte{1})
		}
		if err != nil {
			err = errors.Join(err, a.Close())
		}
		failed <- err
	}()
	_, err := dialled.Read(make([]byte, 1)) // shakes hands first; in TLS 1.3 a refusal comes behind the client's part
	if err != nil {
		err = errors.Join(err, b.Close())
	}
	return served.ConnectionState(), errors.Join(err, <-failed)
}

func TestAuthorityStaysTheSame(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir, "fl.example.com", "10.1.2.3")
	files := []string{keyFile, certFile, serverFile, operatorFile, logFile, lockFile}
	before := make(map[string][]byte)
	for _, f := range files {
		before[f] = read(t, dir, f)
		if info, err := os.Stat(filepath.Join(dir, f)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v; want 0600", f, info.Mode(), err)
		}
	}
	b := open(t, dir, "10.1.2.3", "fl.example.com", "localhost")
	for _, f := range files {
		if !bytes.Equal(read(t, dir, f), before[f]) {
			t.Errorf("%s changed at the second start", f)
		}
	}
	if a.Fingerprint() != b.Fingerprint() || a.Fingerprint() != sha256.Sum256(b.Certificate()) || !a.PublicKey().Equal(b.PublicKey()) {
		t.Error("the second start has another CA")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(files) {
		t.Errorf("%d files in the folder, %v; want %d", len(entries), err, len(files))
	}
}

func TestServerCertificateFollowsHostsAndTime(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	a := open(t, dir, "one.example.com")
	first := read(t, dir, serverFile)
	if b := open(t, dir, "two.example.com"); bytes.Equal(first, read(t, dir, serverFile)) {
		t.Error("other hosts keep the certificate")
	} else if pair, err := b.serverCertificate(now); err != nil || pair.Leaf.VerifyHostname("two.example.com") != nil || pair.Leaf.VerifyHostname("::1") != nil ||
		pair.Leaf.VerifyHostname("one.example.com") == nil {
		t.Errorf("the new certificate is for %v %v, %v", pair.Leaf.DNSNames, pair.Leaf.IPAddresses, err)
	}
	early, err := a.serverCertificate(now.Add(serverLife - serverRenewal - time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	late, err := a.serverCertificate(now.Add(serverLife - serverRenewal + time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if early.Leaf.NotAfter.Equal(late.Leaf.NotAfter) {
		t.Error("a running coordinator keeps its certificate until it ends")
	}
	if err := os.WriteFile(filepath.Join(dir, serverFile), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
	for _, host := range []string{"", "a b", "host:7443", "http://host"} {
		if _, err := Open(dir, []string{host}, nil, now); err == nil || !strings.Contains(err.Error(), "want a DNS name") {
			t.Errorf("host %q: %v", host, err)
		}
	}
}

func TestWrongFilesAreRefused(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		damage     func(t *testing.T, dir string)
	}{
		{"key and log lost", "without its key", func(t *testing.T, dir string) { remove(t, dir, keyFile); remove(t, dir, logFile) }},
		{"key and certificate lost", "not its certificate", func(t *testing.T, dir string) { remove(t, dir, keyFile); remove(t, dir, certFile) }},
		{"certificate lost", "put ca.pem back", func(t *testing.T, dir string) { remove(t, dir, certFile) }},
		{"log lost", "log.pem is missing", func(t *testing.T, dir string) { remove(t, dir, logFile) }},
		{"key of another CA", "not the certificate of the key", func(t *testing.T, dir string) { swap(t, dir, keyFile) }},
		{"key damaged", "PEM block of type PRIVATE KEY", func(t *testing.T, dir string) { overwrite(t, dir, keyFile, []byte("x")) }},
		{"certificate damaged", "PEM block of type CERTIFICATE", func(t *testing.T, dir string) { overwrite(t, dir, certFile, []byte("x")) }},
		{"operator of another CA", "issued by another CA", func(t *testing.T, dir string) { swap(t, dir, operatorFile) }},
		{"log of another CA", "certified by another CA", func(t *testing.T, dir string) { swap(t, dir, logFile) }},
		{"log damaged", "DISCREET LOG CREDENTIAL in PEM", func(t *testing.T, dir string) { overwrite(t, dir, logFile, read(t, dir, keyFile)) }},
		{"list damaged", "newest", func(t *testing.T, dir string) { overwrite(t, dir, revokedFile, []byte("x")) }},
		{"list of another CA", "not signed by the authority", func(t *testing.T, dir string) {
			other := t.TempDir()
			open(t, other)
			revoke(t, other, 1)
			overwrite(t, dir, revokedFile, read(t, other, revokedFile))
		}},
		{"operator damaged", "not an operator's credential", func(t *testing.T, dir string) { overwrite(t, dir, operatorFile, []byte("x")) }},
	} {
		dir := t.TempDir()
		open(t, dir)
		tc.damage(t, dir)
		if _, err := Open(dir, nil, nil, time.Now()); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want an error with %q", tc.name, err, tc.want)
		}
	}
	// A folder of 0.1.0 never had a log key. The error tells the way on, with the same CA.
	before := t.TempDir()
	authority := open(t, before).Certificate()
	remove(t, before, logFile)
	if _, err := Open(before, nil, nil, time.Now()); err == nil || !strings.Contains(err.Error(), "move operator.pem and server.pem away and start again") {
		t.Errorf("a folder that never had a log key: %v", err)
	}
	remove(t, before, operatorFile)
	remove(t, before, serverFile)
	if a := open(t, before); !bytes.Equal(a.Certificate(), authority) || a.LogKey() == nil {
		t.Error("with both files moved away the folder has another CA, or no log key")
	}
	// A crash between the first two files leaves a key alone: nothing was issued.
	dir := t.TempDir()
	open(t, dir)
	remove(t, dir, certFile)
	remove(t, dir, operatorFile)
	remove(t, dir, serverFile)
	remove(t, dir, logFile)
	open(t, dir)
	if _, err := Open(dir, nil, nil, time.Now().AddDate(authorityYears+1, 0, 0)); err == nil || !strings.Contains(err.Error(), "ended on") {
		t.Errorf("an ended CA: %v", err)
	}
}

func remove(t *testing.T, dir, name string) {
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func overwrite(t *testing.T, dir, name string, data []byte) {
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// swap puts the file of another authority in place.
func swap(t *testing.T, dir, name string) {
	other := t.TempDir()
	open(t, other)
	overwrite(t, dir, name, read(t, other, name))
}

func TestRolesOverTLS(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir)
	operator, err := LoadOperator(a.OperatorPath())
	if err != nil {
		t.Fatal(err)
	}
	operator.ServerName = "localhost"
	certificate, id := device(t, a)
	foreign, _ := device(t, open(t, t.TempDir()))
	stolen := operator.Clone() // the server's own certificate is no client's
	pair, err := a.serverCertificate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	stolen.Certificates = []tls.Certificate{*pair}
	with := func(c ...tls.Certificate) *tls.Config {
		config := operator.Clone()
		config.Certificates = c
		return config
	}
	for _, tc := range []struct {
		name    string
		client  *tls.Config
		want    Role
		refused bool
	}{
		{"nobody", with(), Anonymous, false},
		{"device", with(certificate), Device, false},
		{"operator", operator, Operator, false},
		{"device of another CA", with(foreign), Anonymous, true},
		{"server certificate", stolen, Anonymous, true},
	} {
		// A client that picks by the server's list of CAs would send nothing: force it.
		if len(tc.client.Certificates) > 0 {
			c := tc.client.Certificates[0]
			tc.client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c, nil }
		}
		state, err := shake(t, a.ServerTLS(), tc.client)
		if (err != nil) != tc.refused {
			t.Errorf("%s: %v, refused should be %v", tc.name, err, tc.refused)
		}
		if err != nil {
			continue
		}
		peer, err := Identify(state)
		if err != nil || peer.Role != tc.want || (peer.Role == Device && peer.ID != id) {
			t.Errorf("%s: %v %s, %v; want %v", tc.name, peer.Role, peer.ID, err, tc.want)
		}
	}
	old := with()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if _, err := shake(t, a.ServerTLS(), old); err == nil {
		t.Error("TLS 1.2 was accepted")
	}
}

func TestIdentifyRefuses(t *testing.T) {
	a := open(t, t.TempDir())
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, template := range map[string]*x509.Certificate{
		"another device's name": clientTemplate(Device, strings.Repeat("00", 16), time.Now(), a.cert.NotAfter),
		"no role":               clientTemplate(Anonymous, "x", time.Now(), a.cert.NotAfter),
	} {
		der, err := a.sign(template, a.cert, public)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if peer, err := identify(cert); err == nil {
			t.Errorf("%s: taken for %v", name, peer.Role)
		}
	}
	if _, err := Identify(tls.ConnectionState{PeerCertificates: []*x509.Certificate{a.cert}}); err == nil {
		t.Error("an unverified certificate was taken")
	}
	if _, err := a.Issue(public[:31], time.Now()); err == nil {
		t.Error("a short key was certified")
	}
}

// A joining device knows only the fingerprint: the server has to send the CA's
// certificate, and the leaf has to chain to it.
func TestJoiningDeviceFindsTheFingerprint(t *testing.T) {
	a := open(t, t.TempDir(), "kiosk.example.com")
	line := a.Token([SecretSize]byte{1, 2, 3})
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(line, "discreet1."))
	if err != nil || len(raw) != 32+SecretSize || raw[32] != 1 {
		t.Fatalf("token %q: %v", line, err)
	}
	join := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, VerifyConnection: func(state tls.ConnectionState) error {
		chain := state.PeerCertificates
		root := chain[len(chain)-1]
		if sum := sha256.Sum256(root.Raw); !bytes.Equal(sum[:], raw[:32]) {
			return errors.New("another CA")
		}
		roots := x509.NewCertPool()
		roots.AddCert(root)
		_, err := chain[0].Verify(x509.VerifyOptions{DNSName: "kiosk.example.com", Roots: roots})
		return err
	}}
	if _, err := shake(t, a.ServerTLS(), join); err != nil {
		t.Error(err)
	}
	if _, err := shake(t, open(t, t.TempDir(), "kiosk.example.com").ServerTLS(), join); err == nil || !strings.Contains(err.Error(), "another CA") {
		t.Errorf("another coordinator: %v", err)
	}
}

func TestLoadOperatorRefuses(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir)
	for name, want := range map[string]string{keyFile: "not an operator's credential", serverFile: "not an operator's certificate", "none.pem": "data folder"} {
		if _, err := LoadOperator(filepath.Join(dir, name)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", name, err, want)
		}
	}
	data := read(t, dir, operatorFile)
	overwrite(t, dir, operatorFile, data[:bytes.LastIndex(data, []byte("-----BEGIN"))])
	if _, err := LoadOperator(a.OperatorPath()); err == nil || !strings.Contains(err.Error(), "holds 1 certificates") {
		t.Errorf("no CA in it: %v", err)
	}
}
