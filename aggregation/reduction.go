package aggregation

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
)

// Reduction says how an update is shortened before it is encoded: by a linear map that
// devices and coordinator draw from a public seed, afresh in each round. As it is
// linear, the sum of many devices' short updates is the short update of their sum.
//
// An update begins with a matrix of Rows×Width, a model's embedding, and only that is
// shortened, to Kept rows; what lies behind it, the output layer, is sent as it is. A
// permutation of the rows is drawn, and row k of what is sent is
//
//   - a part of the matrix: its row order[k], and the others are not sent at all. A
//     device need not train them either (federated dropout, Caldas et al. 2018,
//     "Expanding the reach of federated learning by reducing client resource
//     requirements"; structured updates, Konečný et al. 2016).
//   - with Fold, a count sketch (Charikar, Chen, Farach-Colton 2002; in federated
//     learning Rothchild et al. 2020, "FetchSGD") of one hash function: the sum of its
//     rows order[k], order[k+Kept], order[k+2·Kept] …, each coordinate with a sign that
//     is drawn for it.
//
// Whole rows share a place because a device's update is zero in all rows but those of
// its own features. The places are balanced, where a hash function would leave some empty
// and crowd others: so both maps, scaled, are orthogonal projections, and Expand is
// their least-squares inverse.
//
// The zero value shortens nothing.
type Reduction struct {
	Rows, Width int  // of the matrix that an update begins with
	Kept        int  // rows that are left of it, 1 to Rows
	Fold        bool // whether the rows that are not kept are folded into those that are
	Seed        [32]byte
}

// NewReduction returns the reduction of a matrix of rows×width that leaves one row in
// place of ratio, rounded up, without its seed; a ratio below 2 shortens nothing.
func NewReduction(rows, width, ratio int, fold bool) Reduction {
	if ratio < 2 {
		return Reduction{}
	}
	return Reduction{Rows: rows, Width: width, Kept: (rows + ratio - 1) / ratio, Fold: fold}
}

// Seeded returns the reduction as it is in a round on a checkpoint, which is given by its
// SHA-256. Nobody chooses the seed, SHA-256("discreet/reduction/v1" ‖ round ‖ checkpoint),
// round being eight bytes, the most significant first; and it is bound into all that
// binds the two.
func (r Reduction) Seeded(round uint64, checkpoint []byte) Reduction {
	if !r.none() {
		b := binary.BigEndian.AppendUint64([]byte("discreet/reduction/v1"), round)
		r.Seed = sha256.Sum256(append(b, checkpoint...))
	}
	return r
}

// none tells whether nothing is shortened.
func (r Reduction) none() bool { return r == Reduction{} }

// Length returns what is left of an update of so many parameters.
func (r Reduction) Length(parameters int) int { return parameters - (r.Rows-r.Kept)*r.Width }

// order is the permutation of the rows, and source what its draws left: for x = Rows−1
// down to 1 the entries at x and y are exchanged, y being the high 64 bits of the
// product of x+1 and a draw of 64 bits.
func (r Reduction) order() (order []int32, source *rand.ChaCha8) {
	source = rand.NewChaCha8(r.Seed)
	order = make([]int32, r.Rows)
	for i := range order {
		order[i] = int32(i)
	}
	for x := r.Rows - 1; x > 0; x-- {
		y, _ := bits.Mul64(source.Uint64(), uint64(x+1))
		order[x], order[y] = order[y], order[x]
	}
	return order, source
}

// Sent returns which rows are sent as they are: all of them where nothing is left out,
// for which it returns nil.
func (r Reduction) Sent() []bool {
	if r.none() || r.Fold {
		return nil
	}
	sent := make([]bool, r.Rows)
	order, _ := r.order()
	for _, row := range order[:r.Kept] {
		sent[row] = true
	}
	return sent
}

// Reduce returns what is sent of an update that Check allows. It may be the update
// itself, and the update is spent.
func (r Reduction) Reduce(update []float32) []float32 {
	if r.none() {
		return update
	}
	short := make([]float32, r.Length(len(update)))
	copy(short[r.Kept*r.Width:], update[r.Rows*r.Width:])
	r.each(func(k, row int, flip []uint32) {
		into, from := short[k*r.Width:][:r.Width], update[row*r.Width:][:r.Width]
		for i, f := range flip {
			into[i] += math.Float32frombits(math.Float32bits(from[i]) ^ f)
		}
	})
	return short
}

// each calls f for every row of the matrix that is in what is sent, with its place there
// and, for each coordinate, the bit that turns its sign around or 0. The signs are the
// bits of draws of 64, from the least significant on; every row begins with a new draw.
func (r Reduction) each(f func(k, row int, flip []uint32)) {
	order, source := r.order()
	flip := make([]uint32, r.Width)
	if !r.Fold {
		order = order[:r.Kept]
	}
	for j, row := range order {
		var drawn uint64
		for i := range flip {
			if !r.Fold {
				break
			}
			if i&63 == 0 {
				drawn = source.Uint64()
			}
			flip[i] = uint32(drawn&1) << 31
			drawn >>= 1
		}
		f(j%r.Kept, int(row), flip)
	}
}

// Expand writes to update the estimate of what was shortened: what lies behind the
// matrix is exact; of a part, rows that were not sent are zero; of a sketch, each place
// is shared out equally to its rows. That is the update of least size with this short
// form. Times the rows at a place, or Rows/Kept for a part, its expectation over the
// seeds is what was shortened. It panics unless short is as long as Length says.
func (r Reduction) Expand(update, short []float32) {
	if len(short) != r.Length(len(update)) {
		panic(fmt.Sprintf("aggregation: expanding %d coordinates to %d, want %d", len(short), len(update), r.Length(len(update))))
	}
	if r.none() {
		copy(update, short)
		return
	}
	clear(update[:r.Rows*r.Width])
	copy(update[r.Rows*r.Width:], short[r.Kept*r.Width:])
	r.each(func(k, row int, flip []uint32) {
		from, into := short[k*r.Width:][:r.Width], update[row*r.Width:][:r.Width]
		share := float32(1)
		if r.Fold {
			share = 1 / float32((r.Rows-k+r.Kept-1)/r.Kept)
		}
		for i, f := range flip {
			into[i] = float32(math.Float32frombits(math.Float32bits(from[i])^f) * share)
		}
	})
}
