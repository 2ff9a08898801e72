// Package ca is the certificate authority of one federation: it keeps the key
// that enrolment rests on, certifies devices, and says who a peer is.
//
// A coordinator begins with [Open], which makes what is missing in a data folder.
// [Authority.Issue] admits a device, [Authority.ServerTLS] is what the coordinator
// listens with, [Identify] reads a verified client certificate, and [LoadOperator] is
// the operator's side of the connection.
//
// The data folder holds
//
//	ca-key.pem    the CA's private key; whoever has it can admit devices
//	ca.pem        its certificate
//	server.pem    the coordinator's certificate and key
//	operator.pem  an operator's certificate and key, and the CA's certificate
//	log.pem       the key of the checkpoint log and the CA's credential over it
//	revoked.bin   the CA's signed list of devices that are members no more, if any
//	ca.lock       held while one of these is made
//
// ca-key.pem may be kept on another machine. There [Init] makes it and [OpenMachine]
// gives what is done with it: a coordinator's folder without the key, certificates for
// the devices that wait at that coordinator with a roll of them, and the list of those that
// are out. An
// Authority without the key certifies nobody and does everything else.
package ca

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/discreet-fl/discreet/secagg"
)

const (
	keyFile      = "ca-key.pem"
	certFile     = "ca.pem"
	serverFile   = "server.pem"
	operatorFile = "operator.pem"
	logFile      = "log.pem"
	revokedFile  = "revoked.bin"
)

// ErrOffline is returned by Issue where the CA's key is kept elsewhere.
var ErrOffline = errors.New("the CA's key is not on this machine")

// Authority is a coordinator's side of the certificate authority. It is safe for
// concurrent use.
type Authority struct {
	root
	log   *slog.Logger
	hosts []string // names and addresses that the server certificate is for, sorted

	logKey        ed25519.PrivateKey
	logCredential []byte

	mu     sync.Mutex // guards server
	server serverCertificate

	out revocations
}

// Open reads the authority in dir and makes what is missing: the CA at the first
// start, the operator's credential, the log's key, and a server certificate for hosts
// (DNS names and IP addresses) besides localhost, 127.0.0.1 and ::1. A server
// certificate for other hosts, or one near its end, is replaced.
//
// Without ca-key.pem nothing is made: ca.pem, server.pem (which has to be for all the
// hosts), operator.pem and log.pem have to be there. The log gets warnings that call
// for a person; nil is for none.
func Open(dir string, hosts []string, log *slog.Logger, now time.Time) (*Authority, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	a := &Authority{log: log}
	var err error
	if a.hosts, err = hostNames(hosts); err != nil {
		return nil, err
	}
	if a.root, err = readRoot(dir); err != nil {
		return nil, err
	}
	if err := a.begin(now); err != nil {
		return nil, err
	}
	if a.logKey, a.logCredential, err = a.openOnce(now); err != nil {
		return nil, err
	}
	if _, err := a.serverCertificate(now); err != nil {
		return nil, err
	}
	if err := a.openRevocations(); err != nil {
		return nil, err
	}
	for _, name := range []string{keyFile, serverFile, operatorFile, logFile} {
		warnLoose(log, filepath.Join(dir, name))
	}
	return a, nil
}

// begin makes the CA at the first start, and otherwise tells whether the folder can
// be worked with.
func (a *Authority) begin(now time.Time) error {
	if a.cert == nil { // also where a crash came between the two files: nothing was issued yet
		if strays := existing(a.dir, serverFile, operatorFile, logFile); len(strays) > 0 {
			return fmt.Errorf("ca: %s holds %s of a CA but not its certificate; put %s back beside it, or begin with an empty folder",
				a.dir, strings.Join(strays, " and "), certFile)
		}
		return a.make(now)
	}
	if err := a.live(now); err != nil {
		return err
	}
	if a.key != nil {
		return nil
	}
	if there := existing(a.dir, serverFile, operatorFile, logFile); len(there) < 3 {
		return fmt.Errorf("ca: %s stands in %s without its key, which is fine where the key is kept elsewhere and %s, %s and %s are here: "+
			"copy them from what `discreet ca issue coordinator` wrote, or put %s back", certFile, a.dir, serverFile, operatorFile, logFile, keyFile)
	}
	a.log.Info("the CA's key is kept elsewhere: new devices wait until an operator admits them", "folder", a.dir)
	return nil
}

// existing returns those of the names that stand in a folder.
func existing(dir string, names ...string) []string {
	var there []string
	for _, name := range names {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil || !errors.Is(err, fs.ErrNotExist) {
			there = append(there, name)
		}
	}
	return there
}

// Offline tells whether the CA's key is kept elsewhere, so that Issue is impossible.
func (a *Authority) Offline() bool { return a.key == nil }

// OperatorPath returns the file with the operator's credential.
func (a *Authority) OperatorPath() string { return filepath.Join(a.dir, operatorFile) }

// LogKey returns the Ed25519 key that signs the heads of the checkpoint log.
func (a *Authority) LogKey() ed25519.PrivateKey { return a.logKey }

// LogPublicKey returns its public half.
func (a *Authority) LogPublicKey() ed25519.PublicKey { return a.logKey.Public().(ed25519.PublicKey) }

// LogCredential returns the CA's signature over the log's public key, 64 bytes.
func (a *Authority) LogCredential() []byte { return a.logCredential }

// Roll signs a roll of devices that the CA has certified, at most [secagg.MaxRoll]. Without
// the CA's key it fails with [ErrOffline].
func (a *Authority) Roll(devices []ed25519.PublicKey) (*secagg.Roll, error) {
	if a.Offline() {
		return nil, fmt.Errorf("ca: signing a roll: %w", ErrOffline)
	}
	r, err := secagg.SignRoll(a.key, devices)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	return r, nil
}

// Issue certifies a device's Ed25519 key. Without the CA's key it fails with
// [ErrOffline].
func (a *Authority) Issue(device ed25519.PublicKey, now time.Time) (Issued, error) {
	if a.Offline() {
		return Issued{}, fmt.Errorf("ca: certifying a device: %w", ErrOffline)
	}
	return a.issue(device, now)
}
