package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/discreet-fl/discreet/model"
)

func TestWarmStartAndFrom(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	settings := func() *taskSettings {
		s := &taskSettings{every: time.Hour, deadline: time.Minute, corrupt: 0.1, lost: 0.1, compression: "none"}
		s.spec.Model, s.spec.PerRound, s.spec.MinSurvivors = "small", 5, minSurvivors
		return s
	}
	s := settings()
	s.beginning.file = write("own.csv", "text,intent\nwhere is my parcel,track\nwhen does it arrive,track\nsend the money back,refund\nI want a refund,refund\nhello there,greet\n")
	if err := s.fill("desk", new(pflag.FlagSet)); err != nil || strings.Join(s.spec.Intents, " ") != "track refund greet" {
		t.Fatalf("intents %v, %v", s.spec.Intents, err)
	}
	var said bytes.Buffer
	first, err := s.beginning.first(t.Context(), &said, &s.spec)
	if err != nil || !strings.Contains(said.String(), "trained on 5 phrases") {
		t.Fatalf("%s, %v", &said, err)
	}
	again, err := s.beginning.first(t.Context(), &said, &s.spec)
	if err != nil || !bytes.Equal(again.Encode(), first.Encode()) {
		t.Errorf("a second time it differs, %v", err)
	}

	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.beginning.first(over, &said, &s.spec); !isCanceled(err) {
		t.Errorf("once the context has ended: %v, want why it was not trained", err)
	}

	next := settings()
	next.beginning.from = write("first.ckpt", string(first.Encode()))
	next.beginning.file = write("more.csv", "text,intent\nsing a song,music\nplay some music,music\n")
	if err := next.fill("other", new(pflag.FlagSet)); err != nil || strings.Join(next.spec.Intents, " ") != "track refund greet music" {
		t.Fatalf("intents %v, %v", next.spec.Intents, err)
	}
	said.Reset()
	latest, err := next.beginning.first(t.Context(), &said, &next.spec)
	if err != nil || !strings.Contains(said.String(), "round 0 of task desk, with 1 intent of 4 new") {
		t.Errorf("%s, %v", &said, err)
	}
	first.Manifest.TokeniserVersion, first.Manifest.TokeniserDigest = model.Tokeniser1, model.Tokeniser1.Digest()
	earlier := settings()
	earlier.beginning.from, earlier.beginning.file = write("earlier.ckpt", string(first.Encode())), next.beginning.file
	if err := earlier.fill("other", new(pflag.FlagSet)); err != nil {
		t.Fatal(err)
	}
	said.Reset()
	begun, err := earlier.beginning.first(t.Context(), &said, &earlier.spec)
	if err != nil {
		t.Fatal(err)
	}
	if begun.Manifest.TokeniserVersion != model.Tokeniser1 || begun.Manifest.CheckTokeniser() != nil || slices.Equal(begun.Params, latest.Params) ||
		!strings.Contains(said.String(), "by version 1 of the tokeniser, as that task") {
		t.Errorf("what goes on from an earlier tokeniser's checkpoint is not of it: version %d, %s", begun.Manifest.TokeniserVersion, &said)
	}
	next.spec.Model = "base"
	if _, err := next.beginning.first(t.Context(), &said, &next.spec); err == nil || !strings.Contains(err.Error(), "want --model base") {
		t.Errorf("another size: %v", err)
	}
	strange := settings()
	strange.intents, strange.beginning.file = write("intents.txt", "track\nrefund\n"), s.beginning.file
	if err := strange.fill("desk", new(pflag.FlagSet)); err != nil {
		t.Fatal(err)
	}
	if _, err := strange.beginning.first(t.Context(), &said, &strange.spec); err == nil || !strings.Contains(err.Error(), `"greet"`) {
		t.Errorf("a phrase of another intent: %v", err)
	}
	if err := settings().fill("desk", new(pflag.FlagSet)); err == nil {
		t.Error("a task without intents")
	}
}
