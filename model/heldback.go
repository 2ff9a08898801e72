package model

import (
	"math/rand/v2"

	"github.com/discreet-fl/discreet/model/kernel"
)

// HeldBackOf is what a share of chats is told in: chats in 10,000.
const HeldBackOf = 10_000

// HeldBack tells whether a chat is one of the so many in 10,000 that a device does not train on but evaluates with.
// It depends on the chat's features alone, which a task's tokeniser gives, so that a chat, and every other with the
// same words, stays on its side whatever else the device learns or forgets, and whatever the chat's intent is
// corrected to. A larger share holds back the same chats and more.
func HeldBack(f Features, share int) bool { return hash(f)%HeldBackOf < uint64(share) }

// hash is 64-bit FNV-1a over the features' words, with the finaliser of MurmurHash3, without which texts of a few
// features would not spread evenly.
func hash(f Features) uint64 {
	h := uint64(0xcbf29ce484222325)
	for _, x := range f {
		h = (h ^ uint64(x)) * 0x100000001b3
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// StandIn returns features like those of a text out of scope: a half, drawn by what they are, of one chat's and a
// half of another's. No intent has both. It is the same for the same two on every platform.
func StandIn(a, b Features) Features {
	draw := rand.New(rand.NewPCG(hash(a), hash(b)))
	mixed := make(Features, 0, (len(a)+len(b))/2+1)
	for _, f := range []Features{a, b} {
		for _, x := range f {
			if draw.Uint64()>>63 == 0 {
				mixed = append(mixed, x)
			}
		}
	}
	return mixed
}

// Answer is the most probable intent of a text and how sure the model is of it.
type Answer struct {
	Index  int     // in the manifest's labels; of equal ones the lowest
	Score  float32 // its score (logit)
	Margin float32 // log(p/(1−p)) of its probability p
}

// Answer returns the most probable intent of a text.
func (c *Classifier) Answer(f Features) Answer {
	scores := c.Scores(f)
	best := 0
	for i, s := range scores {
		if s > scores[best] {
			best = i
		}
	}
	return Answer{Index: best, Score: scores[best], Margin: kernel.Margin(scores, best)}
}
