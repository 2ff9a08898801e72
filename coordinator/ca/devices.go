package ca

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/discreet-fl/discreet/secagg"
)

// Two files of text carry devices to the CA's machine and back. The first line of each
// names its format; every other is a device:
//
//	discreet requests v1
//	<id, 32 hexadecimal digits> <Ed25519 public key, 64>
//
//	discreet issued v2
//	<id> <public key> <credential, 128 hexadecimal digits> <certificate, DER in base64>
//	roll <signature, 128 hexadecimal digits>
//
// The id follows from the key; it stands there for people, and is checked. Each device
// stands in a file once. The last line of what was issued is the signature of the roll of
// all devices before it, also of one; without it the file was cut off. A file without
// devices has none, nor had one of v1.
const (
	requestsHeader  = "discreet requests v1"
	issuedHeader    = "discreet issued v2"
	issuedHeaderOld = "discreet issued v1"
	rollWord        = "roll"

	// MaxRequests is how many devices one file names at most.
	MaxRequests = 10_000

	maxCertificate = 4 << 10 // bytes of a device's certificate on the wire
	maxLine        = 8 << 10
)

// WriteRequests writes the file that brings devices to the CA's machine.
func WriteRequests(w io.Writer, keys []ed25519.PublicKey) error {
	b := bufio.NewWriter(w)
	fmt.Fprintln(b, requestsHeader)
	for _, key := range keys {
		fmt.Fprintf(b, "%v %x\n", secagg.DeviceID(key), []byte(key))
	}
	return b.Flush()
}

// readRequests reads what WriteRequests wrote.
func readRequests(r io.Reader) ([]ed25519.PublicKey, error) {
	var keys []ed25519.PublicKey
	lines := deviceLines{headers: []string{requestsHeader}, writer: "`discreet device waiting`", fields: 2}
	err := lines.read(r, func(key ed25519.PublicKey, _ []string) error {
		keys = append(keys, key)
		return nil
	})
	return keys, err
}

// writeIssued writes the file that brings certificates to the coordinator.
func writeIssued(w io.Writer, issued []Issued, roll *secagg.Roll) error {
	b := bufio.NewWriter(w)
	fmt.Fprintln(b, issuedHeader)
	for _, i := range issued {
		fmt.Fprintf(b, "%v %x %x %s\n", secagg.DeviceID(i.PublicKey), []byte(i.PublicKey), i.Credential, base64.StdEncoding.EncodeToString(i.Certificate))
	}
	if roll != nil {
		fmt.Fprintf(b, "%s %x\n", rollWord, roll.Signature)
	}
	return b.Flush()
}

// ReadIssued reads what [Machine.IssueDevices] wrote: what was issued for each device, and
// the roll of them all, nil where the file has no devices or is of v1. Whether this CA issued it is for
// [Authority.CheckIssued] and [secagg.Roll.Verify] to say.
func ReadIssued(r io.Reader) ([]Issued, *secagg.Roll, error) {
	var issued []Issued
	lines := deviceLines{headers: []string{issuedHeader, issuedHeaderOld}, writer: "`discreet ca issue devices`", fields: 4}
	err := lines.read(r, func(key ed25519.PublicKey, rest []string) error {
		credential, err := hex.DecodeString(rest[0])
		if err != nil || len(credential) != ed25519.SignatureSize {
			return fmt.Errorf("a credential of %d digits, want %d hexadecimal ones", len(rest[0]), 2*ed25519.SignatureSize)
		}
		certificate, err := base64.StdEncoding.Strict().DecodeString(rest[1])
		if err != nil || len(certificate) == 0 || len(certificate) > maxCertificate {
			return fmt.Errorf("a certificate of %d characters, want one of at most %d bytes in base64", len(rest[1]), maxCertificate)
		}
		issued = append(issued, Issued{PublicKey: key, Certificate: certificate, Credential: credential})
		return nil
	})
	if err != nil || lines.roll == nil {
		return issued, nil, err
	}
	roll := &secagg.Roll{Signature: lines.roll}
	for i := range issued {
		roll.Keys = append(roll.Keys, issued[i].PublicKey)
	}
	slices.SortFunc(roll.Keys, func(a, b ed25519.PublicKey) int {
		x, y := secagg.DeviceID(a), secagg.DeviceID(b)
		return bytes.Compare(x[:], y[:])
	})
	return issued, roll, nil
}

// deviceLines is the form of a file of devices.
type deviceLines struct {
	headers []string // the first line is one of them
	writer  string   // what writes it
	fields  int      // of a device's line
	roll    []byte   // the signature in the last line, where there is one
}

// read reads a file: the header, then lines of so many fields, then the roll's if any.
func (f *deviceLines) read(r io.Reader, each func(key ed25519.PublicKey, rest []string) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, maxLine), maxLine)
	if !lines.Scan() || !slices.Contains(f.headers, lines.Text()) {
		return fmt.Errorf("ca: the file begins with %.40q, want %q: name the file that %s wrote", lines.Text(), f.headers[0], f.writer)
	}
	rolls := lines.Text() == issuedHeader
	known := make(map[secagg.ID]bool)
	n := 1
	for lines.Scan() {
		n++
		if f.roll != nil {
			return fmt.Errorf("ca: line %d stands behind the roll, which is the last: copy the whole file that %s wrote", n, f.writer)
		}
		if rest, ok := strings.CutPrefix(lines.Text(), rollWord+" "); ok && rolls {
			signature, err := hex.DecodeString(rest)
			if err != nil || len(signature) != ed25519.SignatureSize || n == 2 {
				return fmt.Errorf("ca: line %d: a roll of %d devices with a signature of %d digits, want devices and %d hexadecimal ones", n, n-2, len(rest), 2*ed25519.SignatureSize)
			}
			f.roll = signature
			continue
		}
		if n-1 > MaxRequests {
			return fmt.Errorf("ca: the file names more than %d devices; split it", MaxRequests)
		}
		parts := strings.Split(lines.Text(), " ")
		if len(parts) != f.fields {
			return fmt.Errorf("ca: line %d has %d fields, want %d: copy the whole file that %s wrote", n, len(parts), f.fields, f.writer)
		}
		id, key, err := parseDevice(parts[0], parts[1])
		if err == nil && known[id] {
			err = fmt.Errorf("device %v stands in the file twice", id)
		}
		if err == nil {
			err = each(key, parts[2:])
		}
		if err != nil {
			return fmt.Errorf("ca: line %d: %w", n, err)
		}
		known[id] = true
	}
	if lines.Err() == nil && rolls && f.roll == nil && n > 1 {
		return fmt.Errorf("ca: the file ends with line %d, without its roll: copy the whole file that %s wrote", n, f.writer)
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("ca: line %d is longer than %d characters: name the file that %s wrote", n+1, maxLine, f.writer)
	}
	return lines.Err()
}

// parseDevice reads an id and its key.
func parseDevice(id, key string) (secagg.ID, ed25519.PublicKey, error) {
	named, err := ParseID(id)
	if err != nil {
		return secagg.ID{}, nil, err
	}
	public, err := hex.DecodeString(key)
	if err != nil || len(public) != ed25519.PublicKeySize {
		return secagg.ID{}, nil, fmt.Errorf("a public key %.80q, want %d hexadecimal digits", key, 2*ed25519.PublicKeySize)
	}
	if got := secagg.DeviceID(public); got != named {
		return secagg.ID{}, nil, fmt.Errorf("the key is that of device %v, the line names %v; get the file anew", got, named)
	}
	return named, public, nil
}

// ParseID reads a device's id as `discreet device list` shows it.
func ParseID(text string) (secagg.ID, error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(secagg.ID{}) {
		return secagg.ID{}, fmt.Errorf("device %.60q, want its id of %d hexadecimal digits as `discreet device list` shows it", text, 2*len(secagg.ID{}))
	}
	return secagg.ID(raw), nil
}
