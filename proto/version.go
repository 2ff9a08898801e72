package discreetv1

import "fmt"

// Major and Minor are the version of this contract: Major is raised when its
// messages can no longer be read, Minor when a field or a call is added, or a field
// holds a newer version of the secure aggregation protocol. Version 1.4 carries version
// 4 of that, 1.3 carries version 3, 1.1 and 1.2 carry version 2.
const (
	Major = 1
	Minor = 4
)

// Current returns the version that this build speaks, for a message's version
// field.
func Current() *Version {
	return &Version{Major: Major, Minor: Minor}
}

// Check returns nil when a peer that says it speaks version peer can be worked
// with: it has this build's major version and a minor version of at least
// oldestMinor. A newer minor version is welcome, since its additions are fields
// and calls that this side ignores. Otherwise the error names both versions
// and the side to upgrade; a coordinator sends its text to the device with
// FAILED_PRECONDITION.
func Check(peer *Version, oldestMinor uint32) error {
	if peer.GetMajor() == 0 {
		return fmt.Errorf("the peer named no version; this side speaks discreet protocol %d.%d and works with %d.%d and later: upgrade the peer",
			Major, Minor, Major, oldestMinor)
	}
	if peer.Major == Major && peer.Minor >= oldestMinor {
		return nil
	}
	upgrade := "upgrade the peer"
	if peer.Major > Major {
		upgrade = "upgrade this side"
	}
	return fmt.Errorf("the peer speaks discreet protocol %d.%d; this side speaks %d.%d and works with %d.%d and later minor versions of %d: %s",
		peer.Major, peer.Minor, Major, Minor, Major, oldestMinor, Major, upgrade)
}
