package secagg

// Members is the number of members in the device's cohort, for a device that wants more
// of them than Params.MinSurvivors.
func (d *Shared) Members() int { return len(d.session.members) }

// Neighbours lists the members that a member of the roster deals shares to and masks
// with, ascending: all others on the complete graph. It is nil for who is no member.
func (c *Shares) Neighbours(id ID) []ID {
	place, ok := c.session.place(id)
	if !ok {
		return nil
	}
	return c.session.ids(c.session.graph.neighbours(place))
}

// Circle lists the roster in the order of a sparse graph's circle, on which each member
// is a neighbour of the k/2 before it and the k/2 after it. On the complete graph the
// order says nothing, and k is one less than the members.
func (c *Shares) Circle() (order []ID, k int) {
	g := c.session.graph
	return c.session.ids(g.order), g.k
}

// Threshold is the number of shares that give one of the cohort's secrets back.
func (c *Shares) Threshold() int { return c.session.graph.threshold }
