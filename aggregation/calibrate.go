package aggregation

import "math"

// FitPlatt returns the slope and offset with which 1/(1+e^−(slope·m+offset)) is the share
// of right answers at a margin m, by greatest likelihood over binned counts: margins are
// how many answers fell into each bin of h, right how many of them were right. It is
// false where the counts do not say: nobody was wrong or nobody right, or larger margins
// are not more often right.
//
// The targets are Platt's, (right+1)/(right+2) and 1/(wrong+2) (Platt 1999, "Probabilistic
// outputs for support vector machines", eq. 4), and the method Newton's with step halving
// (Lin, Lin and Weng 2007, "A note on Platt's probabilistic outputs", algorithm 1).
func FitPlatt(h Histogram, margins, right []int64) (slope, offset float64, ok bool) {
	hits, all := float64(total(right)), float64(total(margins))
	if hits <= 0 || hits >= all {
		return 0, 0, false
	}
	f := plattFit{h: h, margins: margins, right: right, high: (hits + 1) / (hits + 2), low: 1 / (all - hits + 2)}
	slope, offset = 1, 0
	loss, g := f.at(slope, offset)
	for range 100 {
		if math.Abs(g.slope)+math.Abs(g.offset) < 1e-9*all {
			break
		}
		det := g.ss*g.oo - g.so*g.so
		ds, do := (g.oo*g.slope-g.so*g.offset)/det, (g.ss*g.offset-g.so*g.slope)/det
		step, better := 1.0, false
		for ; step > 1e-6 && !better; step /= 2 {
			var next float64
			if next, g = f.at(slope-step*ds, offset-step*do); next < loss {
				slope, offset, loss, better = slope-step*ds, offset-step*do, next, true
			}
		}
		if !better {
			break
		}
	}
	return slope, offset, slope > 0 && slope < math.Inf(1) && !math.IsNaN(offset) && !math.IsInf(offset, 0)
}

// plattFit is what FitPlatt fits, and to what: high is the target of right answers.
type plattFit struct {
	h              Histogram
	margins, right []int64
	high, low      float64
}

// curvature is a gradient and a Hessian, which is never singular.
type curvature struct{ slope, offset, ss, so, oo float64 }

// at returns the cross-entropy at a slope and offset, and how it changes there.
func (f *plattFit) at(slope, offset float64) (loss float64, c curvature) {
	c.ss, c.oo = 1e-9, 1e-9
	for i, n := range f.margins {
		x, n := f.h.Centre(i, len(f.margins)), float64(n)
		z := slope*x + offset
		wanted := float64(f.right[i])*f.high + (n-float64(f.right[i]))*f.low
		// −log σ(z) = log(1+e^−z), and −log(1−σ(z)) is z more.
		loss += n*(math.Log1p(math.Exp(-math.Abs(z)))+max(-z, 0)) + (n-wanted)*z
		p := 1 / (1 + math.Exp(-z))
		c.slope += (n*p - wanted) * x
		c.offset += n*p - wanted
		w := n * p * (1 - p)
		c.ss += w * x * x
		c.so += w * x
		c.oo += w
	}
	return loss, c
}

// Quantile returns the score below which a share of what was counted lies, 0 to 1: within
// a bin of h scores count as spread evenly. It is the range's low end where nothing was
// counted. It panics for another share.
func Quantile(h Histogram, counts []int64, share float64) float64 {
	if !(share >= 0 && share <= 1) {
		panic("aggregation: a quantile outside of 0 to 1")
	}
	left, width := share*float64(total(counts)), (h.High-h.Low)/float64(len(counts))
	for i, n := range counts {
		if n > 0 && left <= float64(n) {
			return h.Low + width*(float64(i)+left/float64(n))
		}
		left -= float64(n)
	}
	return h.Low
}
