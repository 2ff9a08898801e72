//go:build !purego

package secagg

import "golang.org/x/sys/cpu"

// clearUpper is to follow what circl computes of ML-KEM. Its AVX2 code returns with the upper halves of the vector
// registers in use, which makes what is written for the lower halves alone, such as the standard library's SHA-256 and
// AES, many times slower until something clears them (Intel 64 and IA-32 Architectures Optimization Reference Manual,
// "Mixing AVX code with SSE code"): a block of SHA-256 a hundred times.
func clearUpper() {
	if cpu.X86.HasAVX2 {
		zeroUpper()
	}
}

//go:noescape
func zeroUpper()
