package model

import (
	"github.com/cespare/xxhash/v2"
	"github.com/clipperhouse/uax29/v2/words"
)

// Kind is what a feature is made of.
type Kind string

// The kinds of features that Featurise gives.
const (
	KindWord    Kind = "word"       // a word
	KindPair    Kind = "pair"       // two words, one after the other
	KindFirst   Kind = "first"      // the first word's pair with the start mark: that the text begins with it
	KindStems   Kind = "stems"      // the stems of two words, one after the other
	KindStem    Kind = "first stem" // the first word's stem's pair with the start mark: that the text begins with it
	KindLetters Kind = "letters"    // a sequence of letters within <word>
)

// Span says what one feature came from.
type Span struct {
	Kind Kind
	// Word is the place of its word among the text's words, from 0; of a pair the second word's.
	Word int
	// Text is the feature's text as it was hashed: folded, of a pair both words with a space between, of stems so, too,
	// of letters with the marks < and > where the word begins and ends.
	Text string
}

// Spans are the features of a text with what they came from.
type Spans struct {
	Words    []string // the text's words, folded
	Features Features // what Featurise returns
	From     []Span   // of each feature
}

// Spans is Featurise for those who want to know where the features came from. It allocates for every feature;
// Featurise stays the way to classify and to train.
func (t Tokeniser) Spans(text string) Spans {
	t.check()
	var s Spans
	previous, before := uint64(startMark), uint64(startMark)
	for segments := words.FromString(normalise(text)); segments.Next(); {
		word := segments.Value()
		if !wordLike(word) {
			continue
		}
		at := len(s.Words)
		hash := xxhash.Sum64String(word)
		s.add(feature(hash, wordSalt), Span{KindWord, at, word})
		two := feature(pair(previous, hash), pairSalt)
		if at == 0 {
			s.add(two, Span{KindFirst, at, word})
		} else {
			s.add(two, Span{KindPair, at, s.Words[at-1] + " " + word})
		}
		previous = hash
		if t != Tokeniser1 {
			own := stem(word)
			begins := xxhash.Sum64String(own)
			from := Span{KindStem, at, own}
			if at > 0 {
				from = Span{KindStems, at, stem(s.Words[at-1]) + " " + own}
			}
			s.add(feature(pair(before, begins), stemSalt), from)
			before = begins
		}
		s.Words = append(s.Words, word)
		s.addGrams(t.maxGram(), at, "<"+word+">")
	}
	return s
}

func (s *Spans) add(f uint32, from Span) {
	s.Features = append(s.Features, f)
	s.From = append(s.From, from)
}

// addGrams is appendGrams with spans.
func (s *Spans) addGrams(maxGram, at int, marked string) {
	for start := 0; start < len(marked); start += runeLen(marked[start]) {
		end := start
		for runes := 1; runes <= maxGram && end < len(marked); runes++ {
			end += runeLen(marked[end])
			if runes >= minGram {
				letters := marked[start:end]
				s.add(feature(xxhash.Sum64String(letters), gramSalt), Span{KindLetters, at, letters})
			}
		}
	}
}
