package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"time"
)

// limitTime is the CPU time that a limit is measured for.
const limitTime = 200 * time.Millisecond

// rate is what a function handles in a second of CPU, so much of it at a call.
func rate(much int, f func()) float64 {
	handled, began := 0, cpuTime()
	for cpuTime()-began < limitTime {
		f()
		handled += much
	}
	return float64(handled) / (cpuTime() - began).Seconds()
}

// aesRate is the key stream that AES-256-CTR writes into the cache, in bytes for
// a second of CPU.
func aesRate() float64 {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	stream := cipher.NewCTR(block, make([]byte, aes.BlockSize))
	zeros, out := make([]byte, 8<<10), make([]byte, 8<<10)
	return rate(1000*len(out), func() {
		for range 1000 {
			stream.XORKeyStream(out, zeros)
		}
	})
}

// verifyRate is the Ed25519 signatures, of as many keys, that are verified in a second of CPU.
func verifyRate() float64 {
	const signatures = 100
	var keys [signatures]ed25519.PublicKey
	var signed [signatures][]byte
	message := make([]byte, 200)
	for i := range keys {
		key := ed25519.NewKeyFromSeed(append(make([]byte, ed25519.SeedSize-1), byte(i)))
		keys[i], signed[i] = key.Public().(ed25519.PublicKey), ed25519.Sign(key, message)
	}
	return rate(signatures, func() {
		for i, key := range keys {
			if !ed25519.Verify(key, message, signed[i]) {
				panic("a signature does not verify")
			}
		}
	})
}

// memoryRate is what one core reads from memory that is in no cache, in bytes for a
// second of CPU.
func memoryRate() float64 {
	words := make([]uint64, 256<<20/8)
	for i := range words {
		words[i] = uint64(i) // pages that were never written are all one page
	}
	var sum uint64
	r := rate(8*len(words), func() {
		var a, b, c, d uint64
		for w := words; len(w) >= 4; w = w[4:] {
			a, b, c, d = a+w[0], b+w[1], c+w[2], d+w[3]
		}
		sum += a + b + c + d
	})
	if sum == 0 { // it is looked at, so that it is taken
		panic("positive numbers sum to 0")
	}
	return r
}
