package checkpointlog

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

const (
	labelLog = "discreet/log/v1"

	signaturePrefix = "— "
	algorithm       = 0x01 // Ed25519 in the key hash of a note
)

// Head is what a log's signed head says: how many entries there are, and the root of
// the tree over them.
type Head struct {
	Size uint64
	Root [32]byte
}

// String is the head as it appears in errors and logs.
func (h Head) String() string { return fmt.Sprintf("%d entries with the root %x", h.Size, h.Root[:8]) }

// Origin names the log of a task under an authority. It stands in every head, so that
// one log's head is no other's.
func Origin(ca ed25519.PublicKey, task string) string {
	return labelLog + "/" + hex.EncodeToString(ca) + "/" + task
}

// CertifyKey makes the 64-byte credential of a coordinator's log key: the authority's
// Ed25519 signature over "discreet/log/v1" ‖ logKey.
func CertifyKey(ca ed25519.PrivateKey, logKey ed25519.PublicKey) []byte {
	return ed25519.Sign(ca, keyMessage(logKey))
}

// VerifyKey tells whether the authority has certified a log key. Errors: [ErrMalformed],
// [ErrForged].
func VerifyKey(ca, logKey ed25519.PublicKey, credential []byte) error {
	if len(ca) != ed25519.PublicKeySize || len(logKey) != ed25519.PublicKeySize || len(credential) != ed25519.SignatureSize {
		return fmt.Errorf("checkpointlog: %w: an authority's key of %d bytes, a log key of %d and a credential of %d, want %d, %d and %d",
			ErrMalformed, len(ca), len(logKey), len(credential), ed25519.PublicKeySize, ed25519.PublicKeySize, ed25519.SignatureSize)
	}
	if !ed25519.Verify(ca, keyMessage(logKey), credential) {
		return fmt.Errorf("checkpointlog: %w: the authority %x has not certified the log key %x", ErrForged, ca[:4], logKey[:4])
	}
	return nil
}

func keyMessage(logKey ed25519.PublicKey) []byte { return append([]byte(labelLog), logKey...) }

// SignHead returns the signed note that says what a log holds. The key is the log's,
// origin comes from [Origin].
func SignHead(key ed25519.PrivateKey, origin string, h Head) []byte {
	text := headText(origin, h)
	return appendSignature(text, origin, key.Public().(ed25519.PublicKey), ed25519.Sign(key, text))
}

// VerifyHead reads a signed head and checks that the log key signed it for this
// origin. It takes exactly what [SignHead] makes: errors are [ErrMalformed] and
// [ErrForged].
func VerifyHead(logKey ed25519.PublicKey, origin string, note []byte) (Head, error) {
	if len(note) > MaxHeadBytes || len(logKey) != ed25519.PublicKeySize {
		return Head{}, fmt.Errorf("checkpointlog: %w: a head of %d bytes and a log key of %d, want at most %d and exactly %d",
			ErrMalformed, len(note), len(logKey), MaxHeadBytes, ed25519.PublicKeySize)
	}
	text, line, found := bytes.Cut(note, []byte("\n\n"))
	text = note[:min(len(text)+1, len(note))] // with its last line feed
	encoded, ours := strings.CutPrefix(string(line), signaturePrefix+origin+" ")
	if !found || !ours {
		return Head{}, fmt.Errorf("checkpointlog: %w: a head that begins %.100q, want one of %q with one signature of the same name", ErrMalformed, text, origin)
	}
	h, err := parseHead(origin, text)
	if err != nil {
		return Head{}, err
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(encoded, "\n"))
	if err != nil || len(raw) != 4+ed25519.SignatureSize {
		return Head{}, fmt.Errorf("checkpointlog: %w: a signature of %d bytes, want %d in base64", ErrMalformed, len(raw), 4+ed25519.SignatureSize)
	}
	signature := raw[4:]
	if !bytes.Equal(appendSignature(text, origin, logKey, signature), note) {
		return Head{}, fmt.Errorf("checkpointlog: %w: the head names another key than the log's, %x, or is written in another way than this format's", ErrMalformed, logKey[:4])
	}
	if !ed25519.Verify(logKey, text, signature) {
		return Head{}, fmt.Errorf("checkpointlog: %w: the head of %s is not signed by the log key %x", ErrForged, h, logKey[:4])
	}
	return h, nil
}

// headText is what is signed.
func headText(origin string, h Head) []byte {
	return fmt.Appendf(nil, "%s\n%d\n%s\n", origin, h.Size, base64.StdEncoding.EncodeToString(h.Root[:]))
}

// parseHead reads the three lines.
func parseHead(origin string, text []byte) (Head, error) {
	var h Head
	lines := strings.Split(string(text), "\n")
	if len(lines) != 4 || lines[0] != origin {
		return h, fmt.Errorf("checkpointlog: %w: a head of %d lines for %.100q, want 3 for %q", ErrMalformed, len(lines)-1, lines[0], origin)
	}
	size, sizeErr := strconv.ParseUint(lines[1], 10, 64)
	root, rootErr := base64.StdEncoding.DecodeString(lines[2])
	if sizeErr != nil || rootErr != nil || size < 1 || size > MaxSize || len(root) != len(h.Root) {
		return h, fmt.Errorf("checkpointlog: %w: a head over %.40q entries with the root %.60q, want 1 to %d and 32 bytes in base64", ErrMalformed, lines[1], lines[2], MaxSize)
	}
	h = Head{Size: size, Root: [32]byte(root)}
	if !bytes.Equal(headText(origin, h), text) { // a leading zero, padding bits
		return Head{}, fmt.Errorf("checkpointlog: %w: a head whose size or root is written in another way than this format's", ErrMalformed)
	}
	return h, nil
}

// appendSignature makes a note of a text and its one signature.
func appendSignature(text []byte, origin string, logKey ed25519.PublicKey, signature []byte) []byte {
	named := sha256.New()
	named.Write([]byte(origin + "\n"))
	named.Write([]byte{algorithm})
	named.Write(logKey)
	encoded := base64.StdEncoding.EncodeToString(append(named.Sum(nil)[:4], signature...))
	return fmt.Appendf(nil, "%s\n%s%s %s\n", text, signaturePrefix, origin, encoded)
}
