package secagg

import (
	"crypto/ed25519"
	"errors"
	"io"
)

var ErrSpent = errors.New("secagg: spent")
var errNotYet = errors.New("secagg: not written yet")

type ID [16]byte
type Signer struct {
	Key        ed25519.PrivateKey
	Credential []byte
}
type Params struct {
	Task                                   string
	Round                                  uint64
	Attempt                                uint32
	Plan                                   []byte
	CA                                     ed25519.PublicKey
	Length, RingBits, Cohort, MinSurvivors int
}
type (
	Advertised  struct{}
	Shared      struct{}
	Masking     struct{}
	Masked      struct{}
	Adverts     struct{}
	Shares      struct{}
	Submissions struct{}
	Reveals     struct{}
	Unmasking   struct{}
)

func (id ID) String() string                                           { return "" }
func DeviceID(pub ed25519.PublicKey) ID                                { return ID{} }
func Certify(ca ed25519.PrivateKey, device ed25519.PublicKey) []byte   { return nil }
func VerifyCredential(ca, device ed25519.PublicKey, cred []byte) error { return errNotYet }
func Threshold(n int) int                                              { return n - n/3 }
func Advertise(p Params, s Signer, rand io.Reader) (*Advertised, []byte, error) {
	return nil, nil, errNotYet
}
func (*Advertised) Share(roster []byte, rand io.Reader) (*Shared, []byte, error) {
	return nil, nil, errNotYet
}
func (*Shared) Open(inbox []byte) (*Masking, error)         { return nil, errNotYet }
func (*Masking) Mask(vector []uint32, lo, hi int)           {}
func (*Masking) Done() *Masked                              { return nil }
func (*Masked) Reveal(survivors []byte) ([]byte, error)     { return nil, errNotYet }
func (*Advertised) Wipe()                                   {}
func (*Shared) Wipe()                                       {}
func (*Masking) Wipe()                                      {}
func (*Masked) Wipe()                                       {}
func NewServer(p Params) (*Adverts, error)                  { return nil, errNotYet }
func (*Adverts) Add(from ID, msg []byte) error              { return errNotYet }
func (*Adverts) Members() []ID                              { return nil }
func (*Adverts) Close() (*Shares, []byte, error)            { return nil, nil, errNotYet }
func (*Shares) Add(from ID, msg []byte) error               { return errNotYet }
func (*Shares) Members() []ID                               { return nil }
func (*Shares) Close() (*Submissions, map[ID][]byte, error) { return nil, nil, errNotYet }
func (*Submissions) Add(from ID) error                      { return errNotYet }
func (*Submissions) Members() []ID                          { return nil }
func (*Submissions) Close() (*Reveals, []byte, error)       { return nil, nil, errNotYet }
func (*Reveals) Add(from ID, msg []byte) error              { return errNotYet }
func (*Reveals) Members() []ID                              { return nil }
func (*Reveals) Ready() bool                                { return false }
func (*Reveals) Close() (*Unmasking, error)                 { return nil, errNotYet }
func (*Unmasking) Range(sum []uint32, lo, hi int)           {}
func (*Unmasking) Expansions() int                          { return 0 }
func (*Unmasking) Survivors() []ID                          { return nil }
func (*Unmasking) Wipe()                                    {}
