package discreetv1

import "slices"

// SubmitChunkBytes is the length of a SubmitRequest's data in every chunk but the last.
const SubmitChunkBytes = 256 << 10

// EnrolProof returns the bytes whose signature is EnrolRequest's proof. The
// fingerprint is the SHA-256 of the CA's certificate in DER.
func EnrolProof(fingerprint [32]byte, tokenSecret, publicKey []byte) []byte {
	return slices.Concat([]byte("discreet/enrol/v1"), fingerprint[:], tokenSecret, publicKey)
}
