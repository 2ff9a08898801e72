package secagg

// Members is the number of members in the device's cohort, for a device that wants more
// of them than Params.MinSurvivors.
func (d *Shared) Members() int { return len(d.session.members) }
