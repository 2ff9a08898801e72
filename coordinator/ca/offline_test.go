package ca

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/discreet-fl/discreet/checkpointlog"
	"github.com/discreet-fl/discreet/secagg"
)

// machine opens the folder of a CA's key.
func machine(t *testing.T, dir string) *Machine {
	t.Helper()
	m, err := OpenMachine(dir, slog.New(slog.DiscardHandler), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// apart makes a CA in one folder and a coordinator's folder without its key.
func apart(t *testing.T, hosts ...string) (m *Machine, caDir, dir string) {
	t.Helper()
	caDir, dir = filepath.Join(t.TempDir(), "ca"), filepath.Join(t.TempDir(), "coordinator")
	m, err := Init(caDir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := m.IssueCoordinator(hosts, dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	return m, caDir, dir
}

// logged opens an authority whose log a test reads.
func logged(t *testing.T, dir string, now time.Time, hosts ...string) (*Authority, *bytes.Buffer, error) {
	t.Helper()
	text := new(bytes.Buffer)
	a, err := Open(dir, hosts, slog.New(slog.NewTextHandler(text, nil)), now)
	return a, text, err
}

func freshKey(t *testing.T) ed25519.PublicKey {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return public
}

func TestKeyKeptElsewhere(t *testing.T) {
	m, _, dir := apart(t, "fl.example.com")
	if names, err := os.ReadDir(dir); err != nil || len(names) != 4 || len(existing(dir, keyFile, revokedFile)) != 0 {
		t.Fatalf("the coordinator's folder holds %v, %v; want four files and not the key", names, err)
	}
	a, _, err := logged(t, dir, time.Now(), "fl.example.com")
	if err != nil {
		t.Fatal(err)
	}
	if !a.Offline() || a.Fingerprint() != m.Fingerprint() || !a.PublicKey().Equal(m.PublicKey()) {
		t.Error("it is another CA, or has the key")
	}
	if _, err := a.Issue(freshKey(t), time.Now()); !errors.Is(err, ErrOffline) {
		t.Errorf("certifying without the key: %v", err)
	}
	if err := checkpointlog.VerifyKey(m.PublicKey(), a.LogPublicKey(), a.LogCredential()); err != nil {
		t.Error(err)
	}
	if !a.LogPublicKey().Equal(a.LogKey().Public()) {
		t.Error("the log's halves do not match")
	}
	// Everything but issuing works: an operator and a device get in.
	operator, err := LoadOperator(a.OperatorPath())
	if err != nil {
		t.Fatal(err)
	}
	operator.ServerName = "fl.example.com"
	if state, err := shake(t, a.ServerTLS(), operator); err != nil {
		t.Error(err)
	} else if peer, err := Identify(state); err != nil || peer.Role != Operator {
		t.Errorf("the operator is taken for %v, %v", peer, err)
	}
	if len(existing(dir, keyFile)) != 0 {
		t.Error("a key was made")
	}
}

// TestMovingTheKeyAway: a coordinator that made its own CA goes on without the key.
func TestMovingTheKeyAway(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	before := open(t, dir)
	for _, name := range []string{keyFile, certFile, operatorFile, logFile} {
		overwrite(t, elsewhere, name, read(t, dir, name))
	}
	remove(t, dir, keyFile)
	after := open(t, dir)
	if !after.Offline() || before.Fingerprint() != after.Fingerprint() || !before.LogPublicKey().Equal(after.LogPublicKey()) {
		t.Error("it does not go on as it was")
	}
	renewed := filepath.Join(t.TempDir(), "renewed")
	if err := machine(t, elsewhere).IssueCoordinator([]string{"new.example.com"}, renewed, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{certFile, operatorFile, logFile} {
		if !bytes.Equal(read(t, renewed, name), read(t, dir, name)) {
			t.Errorf("%s is another one", name)
		}
	}
	if _, _, err := logged(t, dir, time.Now(), "new.example.com"); err == nil || !strings.Contains(err.Error(), "not for new.example.com") {
		t.Errorf("a host that the certificate does not have: %v", err)
	}
	overwrite(t, dir, serverFile, read(t, renewed, serverFile))
	if _, _, err := logged(t, dir, time.Now(), "new.example.com"); err != nil {
		t.Error(err)
	}
}

func TestSuppliedServerCertificate(t *testing.T) {
	m, _, dir := apart(t)
	made := time.Now()
	a, log, err := logged(t, dir, made)
	if err != nil {
		t.Fatal(err)
	}
	first, err := a.serverCertificate(made.Add(serverLife - serverRenewal - time.Hour))
	if err != nil || strings.Contains(log.String(), "its end") {
		t.Errorf("%v, warned too early: %s", err, log)
	}
	for hours, want := range []int{1, 1, 1} {
		if _, err := a.serverCertificate(made.Add(serverLife - serverRenewal + time.Duration(hours+1)*time.Hour)); err != nil {
			t.Error(err)
		}
		if n := strings.Count(log.String(), "comes to its end"); n != want {
			t.Errorf("after %d hours there are %d warnings, want %d: %s", hours+1, n, want, log)
		}
	}
	if _, err := a.serverCertificate(made.Add(serverLife)); err != nil || strings.Count(log.String(), "ca issue coordinator") != 2 {
		t.Errorf("%v; the next day's warning is missing: %s", err, log)
	}
	if _, _, err := logged(t, dir, made.Add(serverLife+time.Hour)); err == nil || !strings.Contains(err.Error(), "ended on") {
		t.Errorf("a start after the end: %v", err)
	}

	for _, bad := range [][]byte{[]byte("half a copy"), read(t, parallel(t), serverFile)} {
		overwrite(t, dir, serverFile, bad)
		for range 2 {
			if same, err := a.serverCertificate(made); err != nil || same != first {
				t.Errorf("a bad file took the place of a good one: %v", err)
			}
		}
	}
	remove(t, dir, serverFile)
	for range 2 {
		if same, err := a.serverCertificate(made); err != nil || same != first {
			t.Errorf("without the file: %v", err)
		}
	}
	if n := strings.Count(log.String(), "is refused"); n != 3 {
		t.Errorf("%d warnings about three bad files: %s", n, log)
	}
	renewed := filepath.Join(t.TempDir(), "renewed")
	if err := m.IssueCoordinator(nil, renewed, made.Add(serverLife)); err != nil {
		t.Fatal(err)
	}
	overwrite(t, dir, serverFile, read(t, renewed, serverFile))
	if next, err := a.serverCertificate(made.Add(serverLife)); err != nil || !next.Leaf.NotAfter.After(first.Leaf.NotAfter) {
		t.Errorf("the new certificate was not taken up: %v", err)
	}
}

// parallel is the folder of a coordinator of another CA.
func parallel(t *testing.T) string {
	_, _, dir := apart(t)
	return dir
}

func TestMachineKeepsWhatIsThere(t *testing.T) {
	_, caDir, dir := apart(t)
	key := read(t, caDir, keyFile)
	if _, err := Init(caDir, time.Now()); err == nil || !strings.Contains(err.Error(), "holds ca-key.pem") {
		t.Errorf("a CA over a CA: %v", err)
	}
	if err := machine(t, caDir).IssueCoordinator(nil, dir, time.Now()); err == nil || !strings.Contains(err.Error(), "holds ca.pem") {
		t.Errorf("a coordinator over a coordinator: %v", err)
	}
	if err := machine(t, caDir).IssueCoordinator(nil, caDir, time.Now()); err == nil {
		t.Error("a coordinator over the CA")
	}
	if err := machine(t, caDir).IssueCoordinator([]string{"host:1"}, t.TempDir(), time.Now()); err == nil || !strings.Contains(err.Error(), "want a DNS name") {
		t.Errorf("a bad host: %v", err)
	}
	if !bytes.Equal(key, read(t, caDir, keyFile)) {
		t.Error("the key changed")
	}
	for name, tc := range map[string]struct{ dir, want string }{
		"nothing there":   {t.TempDir(), "ca init"},
		"a coordinator's": {dir, "not its key"},
	} {
		if _, err := OpenMachine(tc.dir, slog.New(slog.DiscardHandler), time.Now()); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	remove(t, caDir, certFile)
	if _, err := OpenMachine(caDir, slog.New(slog.DiscardHandler), time.Now()); err == nil || !strings.Contains(err.Error(), "put ca.pem back") {
		t.Errorf("no certificate: %v", err)
	}
}

func TestLooseKeyFilesAreWarnedAbout(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no mode for others there")
	}
	_, caDir, dir := apart(t)
	if _, log, err := logged(t, dir, time.Now()); err != nil || strings.Contains(log.String(), "chmod") {
		t.Errorf("%v, a warning without a reason: %s", err, log)
	}
	if err := os.Chmod(filepath.Join(dir, logFile), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, log, err := logged(t, dir, time.Now()); err != nil || !strings.Contains(log.String(), "chmod 600 "+filepath.Join(dir, logFile)) {
		t.Errorf("%v, no warning: %s", err, log)
	}
	if err := os.Chmod(filepath.Join(caDir, keyFile), 0o604); err != nil {
		t.Fatal(err)
	}
	text := new(bytes.Buffer)
	if _, err := OpenMachine(caDir, slog.New(slog.NewTextHandler(text, nil)), time.Now()); err != nil || !strings.Contains(text.String(), "mode=0604") {
		t.Errorf("%v, no warning: %s", err, text)
	}
}

func TestCheckIssued(t *testing.T) {
	m, _, dir := apart(t)
	a, now := open(t, dir), time.Now()
	public := freshKey(t)
	good, err := m.issue(public, now)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.CheckIssued(good, now); err != nil {
		t.Fatal(err)
	}
	foreign, err := open(t, t.TempDir()).Issue(public, now)
	if err != nil {
		t.Fatal(err)
	}
	other, err := m.issue(freshKey(t), now)
	if err != nil {
		t.Fatal(err)
	}
	named := func(template *x509.Certificate) []byte {
		der, err := m.sign(template, m.cert, public)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	id := secagg.DeviceID(public).String()
	noClient := clientTemplate(Device, id, now, m.cert.NotAfter)
	noClient.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for name, tc := range map[string]struct {
		issued Issued
		now    time.Time
	}{
		"another CA's":             {foreign, now},
		"another CA's credential":  {Issued{public, good.Certificate, foreign.Credential}, now},
		"another CA's certificate": {Issued{public, foreign.Certificate, good.Credential}, now},
		"another device's":         {Issued{public, other.Certificate, good.Credential}, now},
		"another's credential":     {Issued{public, good.Certificate, other.Credential}, now},
		"an operator's":            {Issued{public, named(clientTemplate(Operator, id, now, m.cert.NotAfter)), good.Credential}, now},
		"no client's":              {Issued{public, named(noClient), good.Credential}, now},
		"after its end":            {good, now.AddDate(authorityYears, 0, 1)},
		"no certificate":           {Issued{public, nil, good.Credential}, now},
		"a large certificate":      {Issued{public, make([]byte, maxCertificate+1), good.Credential}, now},
		"a short key":              {Issued{public[1:], good.Certificate, good.Credential}, now},
	} {
		if err := a.CheckIssued(tc.issued, tc.now); err == nil {
			t.Errorf("%s passed", name)
		}
	}
}
