package model

import (
	"fmt"
	"math/bits"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"
	"github.com/clipperhouse/uax29/v2/words"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// Tokeniser is a version of how texts become features. Parameters trained on one version's features mean nothing under
// another, so each manifest names its own, which a task keeps for good.
type Tokeniser int

// The versions there are. New tasks have the latest; those of before discreet 0.3, and what goes on from them, have the
// first.
const (
	Tokeniser1      Tokeniser = 1
	Tokeniser2      Tokeniser = 2
	LatestTokeniser           = Tokeniser2
)

// validate reports a version that this build has not.
func (t Tokeniser) validate() error {
	if t < Tokeniser1 || t > LatestTokeniser {
		return fmt.Errorf("tokeniser version %d, this build has 1 to %d; later ones need a later build", t, LatestTokeniser)
	}
	return nil
}

// MaxTextBytes is how much of a text Featurise reads: both the text and its normalised form are cut there, at a
// rune. It bounds the time and memory a message can cost.
const MaxTextBytes = 4096

// The letter sequences inside a word are minGram to maxGram runes long, with the marks < and > around the word counted.
const minGram = 2

func (t Tokeniser) maxGram() int {
	if t == Tokeniser1 {
		return 5
	}
	return 4
}

// stemRunes is how much of a word is its stem at most.
const stemRunes = 4

// Features are the 32-bit hashes of what a text holds, in order, duplicates kept. A model of 2^k rows uses the
// low k bits.
type Features []uint32

// Each kind of feature has its own salt, so that the word "a" and the letter sequence "a" are different features.
const (
	wordSalt = 0xa0761d6478bd642f
	pairSalt = 0xe7037ed1a0b428db
	stemSalt = 0xd6e8feb86659fd93
	gramSalt = 0x8ebc6af09c88c6e3
	// startMark stands for the word before the first.
	startMark = 0x589965cc75374cc3
)

// Featurise returns the features of a text. The text is brought to Unicode's NFKC and case-folded, and cut into
// words by UAX #29; what holds only spaces, punctuation and controls is dropped. Each word then gives, in this order:
//
//   - itself;
//   - the pair of the word before it (a start mark before the first) and itself;
//   - but for version 1, the pair of their stems, where a word's stem is its first 4 runes, or all of a shorter word, and
//     the start mark's itself: words that are inflected differently have it in common;
//   - every sequence of 2 to 4 runes, 2 to 5 in version 1, within <word>, by its first rune and then by its length.
//
// A string's hash h is its 64-bit xxHash with seed 0; a pair's is rotl(h(first), 29) xor h(second). The feature is
// the upper half of (h xor salt of the kind)·0x9e3779b97f4a7c15 mod 2^64.
//
// Invalid UTF-8 reads as U+FFFD. An empty text has no features. Featurise panics on a version that this build has not;
// a checkpoint that was decoded names one that it has.
func (t Tokeniser) Featurise(text string) Features {
	t.check()
	text = normalise(text)
	if text == "" {
		return nil
	}
	features := make(Features, 0, 4*len(text)+8)
	var buffer [64]byte
	marked := buffer[:0]
	maxGram := t.maxGram()
	previous, before := uint64(startMark), uint64(startMark)
	for segments := words.FromString(text); segments.Next(); {
		word := segments.Value()
		if !wordLike(word) {
			continue
		}
		hash := xxhash.Sum64String(word)
		features = append(features, feature(hash, wordSalt), feature(pair(previous, hash), pairSalt))
		previous = hash
		if t != Tokeniser1 {
			begins := hash
			if stem := stem(word); len(stem) < len(word) {
				begins = xxhash.Sum64String(stem)
			}
			features = append(features, feature(pair(before, begins), stemSalt))
			before = begins
		}
		marked = append(marked[:0], '<')
		marked = append(marked, word...)
		marked = append(marked, '>')
		features = appendGrams(features, marked, maxGram)
	}
	return features
}

// check panics on a version that this build has not.
func (t Tokeniser) check() {
	if err := t.validate(); err != nil {
		panic("model: " + err.Error())
	}
}

// stem returns the first stemRunes runes of a word.
func stem(word string) string {
	end := 0
	for runes := 0; runes < stemRunes && end < len(word); runes++ {
		end += runeLen(word[end])
	}
	return word[:end]
}

func pair(first, second uint64) uint64 { return bits.RotateLeft64(first, 29) ^ second }

func feature(hash, salt uint64) uint32 {
	return uint32((hash ^ salt) * 0x9e3779b97f4a7c15 >> 32)
}

// appendGrams appends the features of every sequence of minGram to maxGram runes of word.
func appendGrams(features Features, word []byte, maxGram int) Features {
	for start := 0; start < len(word); start += runeLen(word[start]) {
		end := start
		for runes := 1; runes <= maxGram && end < len(word); runes++ {
			end += runeLen(word[end])
			if runes >= minGram {
				features = append(features, feature(xxhash.Sum64(word[start:end]), gramSalt))
			}
		}
	}
	return features
}

// runeLen returns the length of a valid UTF-8 sequence from its first byte.
func runeLen(first byte) int {
	switch {
	case first < 0x80:
		return 1
	case first < 0xe0:
		return 2
	case first < 0xf0:
		return 3
	}
	return 4
}

// wordLike reports whether a segment holds more than spaces, punctuation and controls. Symbols count: an emoji or
// a currency sign says something about an intent.
func wordLike(segment string) bool {
	for _, r := range segment {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			return true
		case unicode.IsSpace(r), unicode.IsPunct(r), unicode.IsControl(r), unicode.Is(unicode.Cf, r):
		default:
			return true
		}
	}
	return false
}

// normalise returns the text cut, made valid, in NFKC and case-folded.
func normalise(text string) string {
	text = cut(text)
	if isASCII(text) {
		return strings.ToLower(text)
	}
	text = strings.ToValidUTF8(text, "\ufffd")
	// Folding can leave NFKC again (U+0345 folds to a base letter), so normalise on both sides of it. A Caser must
	// not be shared by goroutines.
	text = norm.NFKC.String(cases.Fold().String(norm.NFKC.String(text)))
	return cut(text)
}

// cut returns the longest prefix of at most MaxTextBytes that does not end inside a rune.
func cut(text string) string {
	if len(text) <= MaxTextBytes {
		return text
	}
	end := MaxTextBytes
	for back := 0; back < utf8.UTFMax-1 && end > 0 && !utf8.RuneStart(text[end]); back++ {
		end--
	}
	return text[:end]
}

func isASCII(text string) bool {
	for i := 0; i < len(text); i++ {
		if text[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
