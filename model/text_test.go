package model

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"
	"github.com/clipperhouse/uax29/v2/words"
)

// golden is each Digest as manifests hold it. One may change only where a new Go release brings new Unicode tables: then
// devices built with the two releases do not train together.
var golden = map[Tokeniser]string{
	Tokeniser1: "bf2ce9dd9020cd15286fe3d0430bc226cd127db39ddff4a2e03b8651e00f4909",
	Tokeniser2: "57425b91d70695218eed07e357369873f4d0f7943c15f67291e8bd1ca1356dad",
}

func TestTokeniserDigestIsGolden(t *testing.T) {
	for v := Tokeniser1; v <= LatestTokeniser; v++ {
		if got := v.Digest(); got != golden[v] {
			t.Errorf("digest of version %d is %s, want %s", v, got, golden[v])
		}
	}
}

func TestUnknownTokeniserPanics(t *testing.T) {
	for _, v := range []Tokeniser{0, LatestTokeniser + 1} {
		for name, use := range map[string]func(){
			"Featurise": func() { v.Featurise("a") }, "Spans": func() { v.Spans("a") }, "Digest": func() { v.Digest() },
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s of version %d does not panic", name, v)
					}
				}()
				use()
			}()
		}
	}
}

// spelled is Featurise written from its doc comment, on strings, without its shortcuts.
func spelled(version Tokeniser, text string) Features {
	var features Features
	add := func(hash, salt uint64) {
		features = append(features, uint32(((hash^salt)*0x9e3779b97f4a7c15)>>32))
	}
	previous, previousStem := uint64(startMark), uint64(startMark)
	longest := map[Tokeniser]int{1: 5, 2: 4}[version]
	for segments := words.FromString(normalise(text)); segments.Next(); {
		word := segments.Value()
		if !wordLike(word) {
			continue
		}
		hash := xxhash.Sum64String(word)
		add(hash, wordSalt)
		add(bits.RotateLeft64(previous, 29)^hash, pairSalt)
		previous = hash
		if version != 1 {
			letters := []rune(word)
			hash := xxhash.Sum64String(string(letters[:min(4, len(letters))]))
			add(bits.RotateLeft64(previousStem, 29)^hash, stemSalt)
			previousStem = hash
		}
		runes := []rune("<" + word + ">")
		for start := range runes {
			for n := 2; n <= longest && start+n <= len(runes); n++ {
				add(xxhash.Sum64String(string(runes[start:start+n])), gramSalt)
			}
		}
	}
	return features
}

func TestFeaturiseIsAsDocumented(t *testing.T) {
	for v := Tokeniser1; v <= LatestTokeniser; v++ {
		for _, text := range append([]string{"a", "ab cd", "naïve café ☕ 東京 x", "transfers transferred"}, probes...) {
			if got, want := fmt.Sprint(v.Featurise(text)), fmt.Sprint(spelled(v, text)); got != want {
				t.Errorf("version %d: features of %.40q are %.200s, want %.200s", v, text, got, want)
			}
		}
	}
}

func TestFeaturiseCounts(t *testing.T) {
	for _, c := range []struct {
		text          string
		first, latest int
		why           string
	}{
		{"", 0, 0, "empty"},
		{" \t\n?!... \u200d", 0, 0, "spaces, punctuation and controls only"},
		{"a", 2 + 3, 3 + 3, "word, pair, stems, <a a> <a>"},
		{"hi", 2 + 6, 3 + 6, "word, pair, stems, three of 2, two of 3, one of 4"},
		{"hi hi", 2 * 8, 2 * 9, "duplicates are kept"},
		{"cat", 2 + 10, 3 + 9, "of its five runes with marks all are one sequence in version 1"},
		{"é", 2 + 3, 3 + 3, "runes, not bytes"},
		{"£", 2 + 3, 3 + 3, "a symbol is a word"},
	} {
		for v, want := range map[Tokeniser]int{Tokeniser1: c.first, Tokeniser2: c.latest} {
			if got := v.Featurise(c.text); len(got) != want {
				t.Errorf("version %d: %q has %d features, want %d: %s", v, c.text, len(got), want, c.why)
			}
		}
	}
}

// Words that are inflected alike have their stems' pair in common, and not the words'.
func TestStemsAreInCommon(t *testing.T) {
	has := func(text string, f uint32) bool { return slices.Contains(Tokeniser2.Featurise(text), f) }
	s := Tokeniser2.Spans("transferring moneys")
	kinds := make(map[Kind]int)
	for i, from := range s.From {
		kinds[from.Kind]++
		switch from.Kind {
		case KindStems:
			if !has("transfer money", s.Features[i]) || has("money transfer", s.Features[i]) {
				t.Errorf("the stems %q are not those of the uninflected words in this order alone", from.Text)
			}
		case KindPair:
			if has("transfer money", s.Features[i]) {
				t.Errorf("the pair %q is that of other words", from.Text)
			}
		}
	}
	if kinds[KindStems] != 1 || kinds[KindStem] != 1 || kinds[KindPair] != 1 {
		t.Errorf("two words have the features %v, want one pair of words, one of stems and a first stem", kinds)
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
		want := fmt.Sprint(LatestTokeniser.Featurise(same[0]))
		for _, text := range same[1:] {
			if got := fmt.Sprint(LatestTokeniser.Featurise(text)); got != want {
				t.Errorf("features of %q differ from those of %q", text, same[0])
			}
		}
	}
	a, b := LatestTokeniser.Featurise("transfer to savings"), LatestTokeniser.Featurise("savings to transfer")
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
		if fmt.Sprint(LatestTokeniser.Featurise(c[0])) != fmt.Sprint(LatestTokeniser.Featurise(c[1])) {
			t.Errorf("text of %d bytes ending in %q is not cut as documented", len(c[0]), c[0][MaxTextBytes-1:])
		}
	}
	// One letter that normalises to eighteen: the normalised text is cut too.
	if n := len(LatestTokeniser.Featurise(strings.Repeat("ﷺ", MaxTextBytes/3))); n > 5*MaxTextBytes {
		t.Errorf("a text of %d bytes has %d features", MaxTextBytes, n)
	}
}

func FuzzFeaturise(f *testing.F) {
	for _, probe := range probes {
		f.Add(probe)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for v := Tokeniser1; v <= LatestTokeniser; v++ {
			got := v.Featurise(text)
			if fmt.Sprint(got) != fmt.Sprint(spelled(v, text)) {
				t.Errorf("version %d: features of %q are not as documented", v, text)
			}
			if len(got) > 7*MaxTextBytes {
				t.Errorf("version %d: %d features from %d bytes", v, len(got), len(text))
			}
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
				LatestTokeniser.Featurise(c.text)
			}
		})
	}
}
