// Package secagg sums vectors of uint32 from many devices so that the server
// learns the sum of those who finished and nothing else, also when some of them
// vanish on the way and the server does not keep to the protocol. It is the double
// masking of Bonawitz et al. 2017 (eprint 2017/281), above [CompleteGraph] members on
// the sparse graphs of Bell et al. 2020 (eprint 2020/704), with senders that a
// certificate authority has certified, hybrid post-quantum keys, commitments to
// everything that may have to be revealed, and survivors that a quorum has signed.
// docs/protocol.md is its specification, byte for byte.
//
// A device and a server each hold one value, and every step makes the next value
// from the one before, so that steps cannot be repeated or taken out of order:
//
//	device                                      server
//	CheckIn() → *CheckedIn
//	    commitment ────────────────────────────────→ NewServer(params, …) → *Adverts
//	    committed ←───────────────────────────────── Adverts.Committed
//	CheckedIn.Advertise(params, signer, committed) → *Advertised
//	    advert ────────────────────────────────────→ Adverts.Add
//	    roster ←──────────────────────────────────── Adverts.Close → *Shares of each cohort
//	Advertised.Share(roster) → *Shared
//	    shares ────────────────────────────────────→ Shares.Add
//	    inbox ←───────────────────────────────────── Shares.Close → *Submissions
//	Shared.Open(inbox) → *Masking
//	    complaint, where there is one ─────────────→ Submissions.Complain
//	Masking.Seeds, to be added by; Masking.Mask(vector), Masking.Done → *Masked
//	    masked vector ─────→ the caller's sum, and → Submissions.Admit, Submissions.Add
//	    survivors ←───────────────────────────────── Submissions.Close → *Confirms
//	Masked.Confirm(survivors) → *Confirmed
//	    confirm ───────────────────────────────────→ Confirms.Add
//	    quorum ←──────────────────────────────────── Confirms.Close → *Reveals
//	Confirmed.Reveal(quorum)
//	    reveal ────────────────────────────────────→ Reveals.Add
//	                                                 Reveals.Close → *Unmasking
//	                                                 Unmasking.Range(sum), Unmasking.Seeds
//
// Begin with [CheckIn] for a device and [NewServer] for a server. All messages
// are this package's own canonical bytes. Vectors never pass through it: the
// caller masks its vector in place, carries it, and adds it to its sum.
//
// Nothing here reads a clock, writes a log, starts a goroutine or touches a
// network. A value is not safe for concurrent use, except that [Masking.Mask] and
// [Unmasking.Range] may run on disjoint ranges at the same time.
//
// # Errors
//
// On the server, Add refuses a message with an error and stays as it was, so a
// bad message costs its sender and nobody else. On a device every error is final: the
// value wipes itself and the attempt is over. A [PeerError] names the member whose
// fault it looks to be. A value that was used or wiped answers [ErrSpent].
package secagg
