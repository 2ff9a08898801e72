package model

import (
	"encoding/hex"
	"fmt"
	"math/bits"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"
	"github.com/clipperhouse/uax29/v2/words"
)

// goldenTokeniser is TokeniserDigest as every manifest holds it. It may change only together with TokeniserVersion, or
// where a new Go release brings new Unicode tables: then devices built with the two releases do not train together.
const goldenTokeniser = "bf2ce9dd9020cd15286fe3d0430bc226cd127db39ddff4a2e03b8651e00f4909"

func TestTokeniserDigestIsGolden(t *testing.T) {
	digest := TokeniserDigest()
	if got := hex.EncodeToString(digest[:]); got != goldenTokeniser {
		t.Errorf("tokeniser digest is %s, want %s", got, goldenTokeniser)
	}
}

// spelled is Featurise written from its doc comment, on strings, without its shortcuts.
func spelled(text string) Features {
	var features Features
	add := func(hash, salt uint64) {
		features = append(features, uint32(((hash^salt)*0x9e3779b97f4a7c15)>>32))
	}
	previous := uint64(startMark)
	for segments := words.FromString(normalise(text)); segments.Next(); {
		word := segments.Value()
		if !wordLike(word) {
			continue
		}
		hash := xxhash.Sum64String(word)
		add(hash, wordSalt)
		add(bits.RotateLeft64(previous, 29)^hash, pairSalt)
		previous = hash
		runes := []rune("<" + word + ">")
		for start := range runes {
			for n := 2; n <= 5 && start+n <= len(runes); n++ {
				add(xxhash.Sum64String(string(runes[start:start+n])), gramSalt)
			}
		}
	}
	return features
}

func TestFeaturiseIsAsDocumented(t *testing.T) {
	for _, text := range append([]string{"a", "ab cd", "naïve café ☕ 東京 x"}, probes...) {
		if got, want := fmt.Sprint(Featurise(text)), fmt.Sprint(spelled(text)); got != want {
			t.Errorf("features of %.40q are %.200s, want %.200s", text, got, want)
		}
	}
}

func TestFeaturiseCounts(t *testing.T) {
	for _, c := range []struct {
		text string
		want int
		why  string
	}{
		{"", 0, "empty"},
		{" \t\n?!... \u200d", 0, "spaces, punctuation and controls only"},
		{"a", 2 + 3, "word, pair, <a a> <a>"},
		{"hi", 2 + 3 + 2 + 1, "word, pair, three of 2, two of 3, one of 4"},
		{"hi hi", 2 * 8, "duplicates are kept"},
		{"é", 2 + 3, "runes, not bytes"},
		{"£", 2 + 3, "a symbol is a word"},
	} {
		if got := Featurise(c.text); len(got) != c.want {
			t.Errorf("%q has %d features, want %d: %s", c.text, len(got), c.want, c.why)
		}
	}
}

func TestFeaturiseSeesThroughForms(t *testing.T) {
	for _, same := range [][]string{
		{"where is my parcel", "WHERE is  my parcel?!", "ｗｈｅｒｅ is\nmy parcel"},
		{"strasse", "Straße", "STRASSE"},
		{"é", "e\u0301", "É"},
		{"k", "\u212a"}, // the Kelvin sign
		{"\ufffd a", "\xff a"},
	} {
		want := fmt.Sprint(Featurise(same[0]))
		for _, text := range same[1:] {
			if got := fmt.Sprint(Featurise(text)); got != want {
				t.Errorf("features of %q differ from those of %q", text, same[0])
			}
		}
	}
	a, b := Featurise("transfer to savings"), Featurise("savings to transfer")
	if fmt.Sprint(a) == fmt.Sprint(b) {
		t.Error("the order of words leaves no trace")
	}
}

func TestFeaturiseCutsLongTextAtARune(t *testing.T) {
	long := strings.Repeat("a", MaxTextBytes-1)
	for _, c := range [][2]string{
		{long + "é tail", long},
		{long + "b tail", long + "b"},
	} {
		if fmt.Sprint(Featurise(c[0])) != fmt.Sprint(Featurise(c[1])) {
			t.Errorf("text of %d bytes ending in %q is not cut as documented", len(c[0]), c[0][MaxTextBytes-1:])
		}
	}
	// One letter that normalises to eighteen: the normalised text is cut too.
	if n := len(Featurise(strings.Repeat("ﷺ", MaxTextBytes/3))); n > 5*MaxTextBytes {
		t.Errorf("a text of %d bytes has %d features", MaxTextBytes, n)
	}
}

func FuzzFeaturise(f *testing.F) {
	for _, probe := range probes {
		f.Add(probe)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := Featurise(text)
		if fmt.Sprint(got) != fmt.Sprint(spelled(text)) {
			t.Errorf("features of %q are not as documented", text)
		}
		if len(got) > 7*MaxTextBytes {
			t.Errorf("%d features from %d bytes", len(got), len(text))
		}
		if n := normalise(text); !utf8.ValidString(n) || len(n) > MaxTextBytes {
			t.Errorf("normalised form of %q has %d bytes, valid %t", text, len(n), utf8.ValidString(n))
		}
	})
}

func BenchmarkFeaturise(b *testing.B) {
	for _, c := range []struct{ name, text string }{
		{"ascii", "where is my parcel? i ordered it three days ago and i'd like to know what happened"},
		{"unicode", "où est mon colis ? je l'ai commandé il y a trois jours et j'aimerais savoir ce qui s'est passé"},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(c.text)))
			b.ReportAllocs()
			for b.Loop() {
				Featurise(c.text)
			}
		})
	}
}
