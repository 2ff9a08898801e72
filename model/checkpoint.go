package model

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// FormatVersion counts the versions of a checkpoint's bytes.
const FormatVersion = 1

// Bounds of a checkpoint's text.
const (
	MaxLabelBytes    = 128
	MaxTaskBytes     = 64
	maxManifestBytes = 8 << 20 // MaxLabels labels and as many old names, each byte of them escaped
)

const magic = "DISCREET"

// Manifest says what a checkpoint's parameters are and what they were trained on.
type Manifest struct {
	Format           int       `json:"format"` // FormatVersion
	Task             string    `json:"task"`
	Round            uint64    `json:"round"` // rounds the parameters have been through; 0 is fresh
	Size             string    `json:"size"`  // "small" or "base"
	Layout           Layout    `json:"layout"`
	TokeniserVersion Tokeniser `json:"tokeniser_version"`
	TokeniserDigest  string    `json:"tokeniser_digest"`          // the tokeniser's Digest
	ParametersSHA256 string    `json:"parameters_sha256"`         // of the little-endian parameters, in hex
	Labels           []string  `json:"labels"`                    // in the order of the scores
	IntentsVersion   uint64    `json:"intents_version,omitempty"` // changes to the labels since the task began
	FormerIntents    []Former  `json:"former_intents,omitempty"`  // old names, which devices' chats may still carry
	// Calibration is how far the answers are to be trusted; nil where no chats were held back to tell.
	Calibration *Calibration `json:"calibration,omitempty"`
}

// Checkpoint is a model at one moment: its manifest and its parameters.
type Checkpoint struct {
	Manifest Manifest
	Params   []float32
}

// NewCheckpoint returns a checkpoint of the latest tokeniser. It keeps params, and copies labels.
func NewCheckpoint(task, size string, round uint64, labels []string, params []float32) (*Checkpoint, error) {
	layout, err := NewLayout(size, len(labels))
	if err != nil {
		return nil, err
	}
	c := &Checkpoint{
		Manifest: Manifest{
			Format: FormatVersion, Task: task, Round: round, Size: size, Layout: layout,
			TokeniserVersion: LatestTokeniser, TokeniserDigest: LatestTokeniser.Digest(),
			Labels: append([]string(nil), labels...),
		},
		Params: params,
	}
	if err := c.Manifest.validate(); err != nil {
		return nil, err
	}
	if len(params) != layout.Parameters() {
		return nil, fmt.Errorf("got %d parameters, want %d for model size %s with %d labels",
			len(params), layout.Parameters(), size, len(labels))
	}
	if err := finite(params); err != nil {
		return nil, err
	}
	c.Manifest.ParametersSHA256 = parametersSHA256(encodeParameters(params))
	return c, nil
}

// CheckTokeniser reports a difference between the tokeniser the parameters were trained on and this build's of that
// version. A build whose digest differs may still classify most texts, but must not train: its features would mean
// something else.
func (m *Manifest) CheckTokeniser() error {
	if err := m.TokeniserVersion.validate(); err != nil {
		return err
	}
	if ours := m.TokeniserVersion.Digest(); m.TokeniserDigest != ours {
		return fmt.Errorf("model was trained with tokeniser %d as %.12s…, which in this build is %.12s…: "+
			"use a build made with the same Go release and modules", m.TokeniserVersion, m.TokeniserDigest, ours)
	}
	return nil
}

// Encode returns the checkpoint's bytes: an 8-byte magic, the length of the manifest as a little-endian 32-bit
// number, the manifest as JSON, and the parameters as little-endian IEEE 754 singles. Equal checkpoints have equal
// bytes, whose SHA-256 names the checkpoint. The manifest's hash of the parameters is computed anew.
func (c *Checkpoint) Encode() []byte {
	m := c.Manifest
	raw := encodeParameters(c.Params)
	m.ParametersSHA256 = parametersSHA256(raw)
	manifest := m.encode()
	b := make([]byte, 0, len(magic)+4+len(manifest)+len(raw))
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(manifest)))
	b = append(b, manifest...)
	return append(b, raw...)
}

func (m *Manifest) encode() []byte {
	b, err := json.Marshal(m)
	if err != nil {
		panic("model: manifest does not encode: " + err.Error()) // it holds only strings and finite numbers
	}
	return b
}

// DecodeCheckpoint reads what Encode wrote and refuses everything else: another magic, format or size, bytes
// missing or left over, a manifest that is not as Encode writes it, a layout that is not the size's, labels that
// are empty or repeated, a tokeniser version this build does not have, parameters that are not finite or not the
// ones the manifest names. It takes memory only for what the bytes can hold. It accepts another tokeniser digest
// of the same version: call Manifest.CheckTokeniser before training.
func DecodeCheckpoint(b []byte) (*Checkpoint, error) {
	c, err := decodeCheckpoint(b)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	return c, nil
}

func decodeCheckpoint(b []byte) (*Checkpoint, error) {
	if len(b) < len(magic)+4 || string(b[:len(magic)]) != magic {
		return nil, fmt.Errorf("%d bytes do not begin with %q: this is not a checkpoint", len(b), magic)
	}
	size := binary.LittleEndian.Uint32(b[len(magic):])
	b = b[len(magic)+4:]
	if size > maxManifestBytes || int(size) > len(b) {
		return nil, fmt.Errorf("manifest of %d bytes, want up to %d and no more than the %d that follow", size, maxManifestBytes, len(b))
	}
	text, raw := b[:size], b[size:]
	c := new(Checkpoint)
	m := &c.Manifest
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if err := m.validate(); err != nil {
		return nil, err
	}
	if !bytes.Equal(text, m.encode()) {
		return nil, errors.New("manifest is not written as this version writes it: fields are missing, unknown or out of order")
	}
	if want := 4 * m.Layout.Parameters(); len(raw) != want {
		return nil, fmt.Errorf("%d bytes of parameters, want %d for model size %s with %d labels", len(raw), want, m.Size, len(m.Labels))
	}
	if got := parametersSHA256(raw); got != m.ParametersSHA256 {
		return nil, fmt.Errorf("parameters have SHA-256 %.12s…, the manifest names %.12s…: the checkpoint is damaged", got, m.ParametersSHA256)
	}
	c.Params = make([]float32, m.Layout.Parameters())
	for i := range c.Params {
		c.Params[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return c, finite(c.Params)
}

// validate checks all but the hash of the parameters.
func (m *Manifest) validate() error {
	if m.Format != FormatVersion {
		return fmt.Errorf("format %d, this build reads %d", m.Format, FormatVersion)
	}
	if err := checkName("task", m.Task, MaxTaskBytes); err != nil {
		return err
	}
	want, err := NewLayout(m.Size, len(m.Labels))
	if err != nil {
		return err
	}
	if m.Layout != want {
		return fmt.Errorf("layout %+v, want %+v for model size %s with %d labels", m.Layout, want, m.Size, len(m.Labels))
	}
	if err := m.TokeniserVersion.validate(); err != nil {
		return err
	}
	if digest, err := hex.DecodeString(m.TokeniserDigest); err != nil || len(digest) != sha256.Size {
		return fmt.Errorf("tokeniser digest %.80q is not %d bytes of hex", m.TokeniserDigest, sha256.Size)
	}
	seen := make(map[string]int, len(m.Labels))
	for i, label := range m.Labels {
		if err := checkName("label", label, MaxLabelBytes); err != nil {
			return fmt.Errorf("label %d: %w", i, err)
		}
		if first, repeated := seen[label]; repeated {
			return fmt.Errorf("label %d repeats label %d: %q", i, first, label)
		}
		seen[label] = i
	}
	if err := m.Calibration.Validate(); err != nil {
		return err
	}
	return m.validateFormer(seen)
}

// validateFormer checks the old names. None is a label, or stands twice.
func (m *Manifest) validateFormer(seen map[string]int) error {
	if n := len(m.FormerIntents); n > MaxFormer || n > 0 && m.IntentsVersion == 0 {
		return fmt.Errorf("%d old names of intents at version %d, want at most %d, and none at version 0", n, m.IntentsVersion, MaxFormer)
	}
	for i, f := range m.FormerIntents {
		if err := checkName("old name", f.Name, MaxLabelBytes); err != nil {
			return fmt.Errorf("old name %d: %w", i, err)
		}
		if f.Now < Retired || f.Now >= len(m.Labels) {
			return fmt.Errorf("old name %d stands for label %d, want %d to %d", i, f.Now, Retired, len(m.Labels)-1)
		}
		if _, taken := seen[f.Name]; taken {
			return fmt.Errorf("old name %d is a label or repeats another: %q", i, f.Name)
		}
		seen[f.Name] = len(m.Labels) + i
	}
	return nil
}

// checkName holds for tasks and labels: they end up in logs, tables and file names.
func checkName(what, s string, limit int) error {
	switch {
	case s == "" || strings.TrimSpace(s) != s:
		return fmt.Errorf("%s %.80q is empty or has spaces around it", what, s)
	case len(s) > limit:
		return fmt.Errorf("%s of %d bytes, want at most %d", what, len(s), limit)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("%s %.80q holds control characters or is not UTF-8", what, s)
	}
	return nil
}

// finite reports the first parameter that is NaN or infinite.
func finite(params []float32) error {
	for i, x := range params {
		if x-x != 0 {
			return fmt.Errorf("parameter %d is %v, want finite numbers", i, x)
		}
	}
	return nil
}

func encodeParameters(params []float32) []byte {
	b := make([]byte, 4*len(params))
	for i, x := range params {
		binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(x))
	}
	return b
}

func parametersSHA256(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}
