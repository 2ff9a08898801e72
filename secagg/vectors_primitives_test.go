package secagg

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"testing"
)

// primitiveVectors are the parts that attempts are made of.
type primitiveVectors struct {
	vectorHead
	Transcripts []transcriptVector `json:"transcripts"`
	Trees       []treeVector       `json:"trees"`
	Rolls       []rollVector       `json:"rolls"`
	Lots        []lotVector        `json:"lots"`
	Counts      []countVector      `json:"counts"`
	Scalars     []validVector      `json:"scalars"`
	Points      []validVector      `json:"x25519_keys"`
	Shamir      []shamirVector     `json:"shamir"`
	Lagrange    []lagrangeVector   `json:"lagrange"`
	MaskKeys    []maskKeyVector    `json:"mask_keys"`
	Seals       []sealVector       `json:"seals"`
	Commitments commitmentVectors  `json:"commitments"`
	Masks       []maskVector       `json:"masks"`
	Packing     []packingVector    `json:"packing"`
}

type transcriptVector struct {
	Label      string  `json:"label"`
	Fields     []hexed `json:"fields"`
	Transcript hexed   `json:"transcript"`
	Hash       hexed   `json:"sha256"`
}

// treeVector is a tree over leaves of 32 bytes.
type treeVector struct {
	Leaves []hexed       `json:"leaves"`
	Root   hexed         `json:"root"`
	Paths  []hexed       `json:"paths"`
	Proofs []proofVector `json:"multiproofs"`
}

type proofVector struct {
	Chosen hexed   `json:"chosen"` // bitmap
	Hashes []hexed `json:"hashes"`
}

// rollVector is a roll of the authority.
type rollVector struct {
	CASeed    hexed   `json:"ca_seed"`
	Keys      []hexed `json:"keys"` // ascending by id
	Root      hexed   `json:"root"`
	Signature hexed   `json:"signature"`
}

type lotVector struct {
	Context   hexed `json:"ctx0"`
	Committed hexed `json:"committed_hash"`
	Opened    hexed `json:"opened_root"`
	Devices   int   `json:"devices"`
	Cohorts   int   `json:"cohorts"`
	Seed      hexed `json:"seed"`
	Of        []int `json:"cohort_of_place"`
}

type countVector struct {
	N         int `json:"n"`
	Corrupt   int `json:"corrupt"`
	Threshold int `json:"complete_graph_threshold"`
	Quorum    int `json:"quorum"`
}

type validVector struct {
	Why   string `json:"why"`
	Bytes hexed  `json:"bytes"`
	Valid bool   `json:"valid"`
}

type shamirVector struct {
	Secret       hexed   `json:"secret"`
	Threshold    int     `json:"threshold"`
	Random       hexed   `json:"random"`
	Coefficients []hexed `json:"coefficients"`
	Shares       []hexed `json:"shares"`
}

type lagrangeVector struct {
	Places       []int   `json:"places"`
	Coefficients []hexed `json:"coefficients"`
}

type maskKeyVector struct {
	Keys       string `json:"keys"`
	Context    hexed  `json:"ctx0"`
	Sigma      hexed  `json:"sigma"`
	Seed       hexed  `json:"seed"`
	Secret     hexed  `json:"secret_key"`
	Public     hexed  `json:"public_key"`
	To         hexed  `json:"to_id"`
	ToPublic   hexed  `json:"to_public_key"`
	Coins      hexed  `json:"coins,omitempty"`
	Ciphertext hexed  `json:"ciphertext,omitempty"`
	Shared     hexed  `json:"shared_secret"`
	Pair       hexed  `json:"pair_mask_key"` // under ctx1 and the ids of "commitments", from the first to the second
}

type sealVector struct {
	Keys      string `json:"keys"`
	Secret    hexed  `json:"channel_secret"`
	Public    hexed  `json:"channel_public"`
	Random    hexed  `json:"random"`
	AAD       hexed  `json:"aad"`
	Plaintext hexed  `json:"plaintext"`
	Sealed    hexed  `json:"sealed"`
}

type commitmentVectors struct {
	Context    hexed   `json:"ctx1"`
	IDs        []hexed `json:"ids"`
	B          hexed   `json:"b"`
	CommitB    hexed   `json:"commit_b"`
	SelfSeed   hexed   `json:"self_mask_key"`
	Share      hexed   `json:"share"`
	CommitOfB  hexed   `json:"commit_share_b"`
	CommitOfS  hexed   `json:"commit_share_sigma"`
	Pair       hexed   `json:"pair_mask_key"`
	CommitPair hexed   `json:"commit_pair"`
	Ciphertext hexed   `json:"ciphertext"`
	CipherHash hexed   `json:"ciphertext_hash"`
}

type maskVector struct {
	Key      hexed  `json:"key"`
	Bits     int    `json:"ring_bits"`
	First    int    `json:"first_element"`
	Elements string `json:"elements"`
}

type packingVector struct {
	Bits   int    `json:"bits"`
	Words  string `json:"words"`
	Packed hexed  `json:"packed"`
}

// TestPrimitiveVectors computes the primitives' vectors and compares them with their file.
func TestPrimitiveVectors(t *testing.T) {
	holdVectors(t, "primitives.json", &primitiveVectors{
		vectorHead:  newVectorHead("the parts that attempts are made of; search, permutation and graph are in ../graph.json, a revocation list in docs/protocol.md"),
		Transcripts: transcriptVectors(), Trees: treeVectors(), Rolls: rollVectors(t), Lots: lotVectors(), Counts: countVectors(),
		Scalars: scalarVectors(t), Points: pointVectors(t), Shamir: shamirVectors(t), Lagrange: lagrangeVectors(t),
		MaskKeys: maskKeyVectors(t), Seals: sealVectors(t), Commitments: newCommitmentVectors(),
		Masks: maskVectors(), Packing: packingVectors(t),
	})
}

// filled is 32 bytes that differ from vector to vector.
func filled(what string) digest { return sha256.Sum256([]byte("vector " + what)) }

func transcriptVectors() (list []transcriptVector) {
	for _, v := range []transcriptVector{
		{Label: labelNonce, Fields: []hexed{make(hexed, 32)}},
		{Label: labelPair, Fields: []hexed{{1, 2, 3}, {}, {0, 5}}},
	} {
		fields := make([][]byte, len(v.Fields))
		for i := range v.Fields {
			fields[i] = v.Fields[i]
		}
		h := hash(v.Label, fields...)
		v.Transcript, v.Hash = transcript(v.Label, fields...), h[:]
		list = append(list, v)
	}
	return list
}

// TestTranscriptEncoding writes one hash input out by hand.
func TestTranscriptEncoding(t *testing.T) {
	got := transcript("ab", []byte{1, 2, 3}, nil, []byte{0, 5})
	want := []byte{0, 0, 0, 2, 'a', 'b', 0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 5}
	if !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

func treeVectors() (list []treeVector) {
	for _, n := range []int{1, 2, 5, 8} {
		var leaves []digest
		var v treeVector
		for i := range n {
			leaf := filled(fmt.Sprintf("leaf %d", i))
			leaves, v.Leaves = append(leaves, leaf), append(v.Leaves, leaf[:])
		}
		t := newTree(leaves)
		root := t.root()
		v.Root = root[:]
		for i := range n {
			v.Paths = append(v.Paths, t.path(i))
		}
		for bits := range min(1<<n, 40) {
			chosen := newBitmap(n)
			for i := range n {
				if (bits*7%(1<<n))>>i&1 == 1 {
					chosen.set(i)
				}
			}
			p := proofVector{Chosen: hexed(chosen), Hashes: []hexed{}}
			for _, h := range t.proof(n, chosen) {
				p.Hashes = append(p.Hashes, h[:])
			}
			v.Proofs = append(v.Proofs, p)
		}
		list = append(list, v)
	}
	return list
}

func newRollVector(ca ed25519.PrivateKey, r *Roll) rollVector {
	root := r.tree.root()
	v := rollVector{CASeed: ca.Seed(), Root: root[:], Signature: r.Signature}
	for _, key := range r.Keys {
		v.Keys = append(v.Keys, hexed(key))
	}
	return v
}

func rollVectors(t *testing.T) (list []rollVector) {
	ca := newKey(1, "authority", 0)
	for _, n := range []int{1, 2, 5} {
		var keys []ed25519.PublicKey
		for i := range n {
			keys = append(keys, newKey(1, "device", i).Public().(ed25519.PublicKey))
		}
		r, err := SignRoll(ca, keys)
		if err == nil {
			err = r.Verify(ca.Public().(ed25519.PublicKey))
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, newRollVector(ca, r))
	}
	return list
}

func lotVectors() (list []lotVector) {
	for _, size := range [][2]int{{9, 2}, {40, 3}, {64, 4}} {
		ctx0, committed, opened := filled("ctx0"), filled("committed"), filled(fmt.Sprintf("opened %d", size[0]))
		l := drawLot(&ctx0, &committed, &opened, size[0], size[1])
		seed := hash(labelCohorts, ctx0[:], committed[:], opened[:])
		v := lotVector{Context: ctx0[:], Committed: committed[:], Opened: opened[:], Devices: size[0], Cohorts: size[1], Seed: seed[:]}
		for place := range size[0] {
			v.Of = append(v.Of, l.cohort(place))
		}
		list = append(list, v)
	}
	return list
}

func countVectors() (list []countVector) {
	for _, n := range []int{3, 4, 5, 6, 9, 10, 30, 99, 100} {
		for _, corrupt := range []int{0, 1000, 3333} {
			list = append(list, countVector{n, corrupt, Threshold(n), Quorum(n, corrupt)})
		}
	}
	return list
}

func scalarVectors(t *testing.T) (list []validVector) {
	order := mustHex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
	below, high := append(hexed(nil), order...), append(hexed(nil), order...)
	below[0]--
	high[31] |= 0x80
	for _, v := range []validVector{
		{"zero", make(hexed, 32), true}, {"the order less one", below, true},
		{"the order", order, false}, {"top bit set", high, false}, {"31 bytes", below[:31], false},
	} {
		if _, err := decodeScalar(v.Bytes); (err == nil) != v.Valid {
			t.Errorf("scalar %s: %v", v.Why, err)
		}
		list = append(list, v)
	}
	return list
}

func pointVectors(t *testing.T) (list []validVector) {
	key := filled("point")
	key[31] &= 0x7f
	high := key
	high[31] |= 0x80
	list = []validVector{{"a key", key[:], true}, {"the same with the top bit set", high[:], false}, {"2^255−19, another zero", mustHex(fieldPrime), false}}
	one := mustHex(fieldPrime)
	one[0]++
	list = append(list, validVector{"2^255−18, another one", one, false})
	for _, low := range lowOrder {
		list = append(list, validVector{"of low order", mustHex(low), false})
	}
	for _, v := range list {
		if err := checkPublic(v.Bytes); (err == nil) != v.Valid {
			t.Errorf("key %s: %v", v.Why, err)
		}
	}
	return list
}
