package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/discreet-fl/discreet/checkpointlog"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
)

// logPage is how many entries are asked for at once, the most that there are in a page.
const logPage = 1000

func newLog() *cobra.Command {
	return parent("log", "operate", "Verify and export the log of checkpoints", newLogVerify(), newLogExport())
}

func newLogVerify() *cobra.Command {
	var (
		o              operator
		task, ca, head string
	)
	c := &cobra.Command{
		Use: "verify [FILE]", Short: "Check every entry of the log of checkpoints", Args: atMostOne("FILE"),
		Long: `Verify fetches the whole log of every task, or of --task, and checks it: that the CA
certified the key that signs it, that each entry names the checkpoint before it, and that
the signed head is over these entries. It prints a line for each task. With FILE it checks
what "discreet log export" wrote, and needs no coordinator.

With --head it also checks that the log only grew since FILE was written, by an earlier
"discreet log export". It writes nothing.`,
		Example: `  discreet log verify
  discreet log verify --head log-of-may.txt
  discreet log verify log-of-may.txt --ca ca.pem`,
		RunE: func(c *cobra.Command, args []string) error {
			v := &logVerifier{out: c.OutOrStdout()}
			if len(args) == 1 && ca == "" {
				return usagef("--ca is missing: name the CA's certificate, ca.pem, of which you know that it is the federation's")
			}
			if ca == "" {
				ca = o.credential
			}
			var err error
			if v.authority, err = readAuthority(ca); err != nil {
				return err
			}
			if head != "" {
				if v.kept, err = readKept(head); err != nil {
					return err
				}
				v.keptName = head
			}
			if len(args) == 1 {
				err = v.file(args[0], task)
			} else {
				err = o.run(c, func(ctx context.Context, connection *grpc.ClientConn) error { return v.live(ctx, connection, task) })
			}
			if err == nil && v.kept != nil && !v.compared {
				err = fmt.Errorf("%s holds the head of another log than was verified: it begins %.100q", head, v.kept.Head)
			}
			return err
		},
	}
	o.flags(c)
	c.Flags().StringVar(&task, "task", "", "the only task to verify; empty is all")
	c.Flags().StringVar(&ca, "ca", "", "the CA's certificate; empty is the one in the operator's credential")
	c.Flags().StringVar(&head, "head", "", "a log exported earlier, or its head alone, to compare with")
	return c
}

func newLogExport() *cobra.Command {
	var o operator
	c := &cobra.Command{
		Use: "export TASK", Short: "Write a task's log of checkpoints to standard output", Args: arguments("TASK"),
		Long: `Export fetches a task's whole log and prints it with its signed head and the key that
signs it, for somebody who has the CA's certificate to check with "discreet log verify
FILE --ca ca.pem". A log that is not right is printed as it is, and the command fails.`,
		Example: `  discreet log export support > log-of-may.txt`,
		RunE: func(c *cobra.Command, args []string) error {
			authority, err := readAuthority(o.credential)
			if err != nil {
				return err
			}
			return o.run(c, func(ctx context.Context, connection *grpc.ClientConn) error {
				f, err := fetchLog(ctx, rpc.NewCheckpointServiceClient(connection), args[0])
				if err != nil {
					return err
				}
				if _, err := c.OutOrStdout().Write(f.Encode()); err != nil {
					return err
				}
				_, err = checkpointlog.VerifyAll(authority, f.LogKey, f.Credential, args[0], f.Head, f.Entries)
				return err
			})
		},
	}
	o.flags(c)
	return c
}

// logVerifier checks logs of one authority.
type logVerifier struct {
	out       io.Writer
	authority ed25519.PublicKey

	kept     *checkpointlog.File // to compare with, nil for none; it may have a head alone
	keptName string
	compared bool
}

// file checks an exported log.
func (v *logVerifier) file(name, task string) error {
	f, err := readLogFile(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if len(f.Entries) == 0 {
		return fmt.Errorf("%s holds no entries", name)
	}
	if task == "" {
		first, err := checkpointlog.DecodeEntry(f.Entries[0])
		if err != nil {
			return fmt.Errorf("%s: entry 0: %w", name, err)
		}
		task = first.Task
	}
	return v.verify(task, f, nil)
}

// live checks the logs of a coordinator's tasks.
func (v *logVerifier) live(ctx context.Context, connection *grpc.ClientConn, only string) error {
	reply, err := rpc.NewOperatorServiceClient(connection).ListTasks(ctx, &pb.ListTasksRequest{})
	if err != nil {
		return err
	}
	service, found := rpc.NewCheckpointServiceClient(connection), false
	for _, t := range reply.GetTasks() {
		name := t.GetSpec().GetName()
		if only != "" && name != only {
			continue
		}
		found = true
		f, err := fetchLog(ctx, service, name)
		if err != nil {
			return err
		}
		if err := v.verify(name, f, func(h checkpointlog.Head) error { return findChanged(ctx, service, name, f.Entries, h) }); err != nil {
			return err
		}
	}
	if !found && only != "" {
		return fmt.Errorf("the coordinator has no task %q; see %q", only, "discreet task list")
	}
	return nil
}

// verify checks a task's log and prints its line. Where the root alone tells that an
// entry was changed, find says which, if it can.
func (v *logVerifier) verify(task string, f *checkpointlog.File, find func(checkpointlog.Head) error) error {
	h, err := checkpointlog.VerifyAll(v.authority, f.LogKey, f.Credential, task, f.Head, f.Entries)
	if errors.Is(err, checkpointlog.ErrNotProven) && find != nil {
		if signed, headErr := checkpointlog.VerifyHead(f.LogKey, checkpointlog.Origin(v.authority, task), f.Head); headErr == nil && signed.Size == uint64(len(f.Entries)) {
			if changed := find(signed); changed != nil {
				err = fmt.Errorf("%w (%w)", changed, err)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("the log of task %s: %w", task, err)
	}
	last, err := checkpointlog.DecodeEntry(f.Entries[len(f.Entries)-1])
	if err != nil {
		return err
	}
	grown := ""
	if v.kept != nil && bytes.HasPrefix(v.kept.Head, []byte(checkpointlog.Origin(v.authority, task)+"\n")) {
		before, err := v.compare(task, f, h)
		if err != nil {
			return fmt.Errorf("the log of task %s: %w", task, err)
		}
		v.compared, grown = true, fmt.Sprintf(", grown from the %s of %s", entryCount(before.Size), v.keptName)
	}
	_, err = fmt.Fprintf(v.out, "%s: %s, newest round %d, root %x%s\n", task, entryCount(h.Size), last.Round, h.Root, grown)
	return err
}

// compare checks that a log, which was verified, grew out of the one that was kept.
func (v *logVerifier) compare(task string, f *checkpointlog.File, h checkpointlog.Head) (checkpointlog.Head, error) {
	before, err := checkpointlog.VerifyHead(f.LogKey, checkpointlog.Origin(v.authority, task), v.kept.Head)
	if err != nil {
		return before, fmt.Errorf("%s: %w", v.keptName, err)
	}
	if before.Size > h.Size {
		return before, fmt.Errorf("it shrank: %s has %v, now it has %v", v.keptName, before, h)
	}
	for i, entry := range v.kept.Entries[:min(len(v.kept.Entries), len(f.Entries))] {
		if !bytes.Equal(entry, f.Entries[i]) {
			return before, fmt.Errorf("entry %d is another than in %s: it forked, or the file was changed", i, v.keptName)
		}
	}
	tree := new(checkpointlog.Tree)
	for _, entry := range f.Entries[:before.Size] {
		tree.Add(entry)
	}
	then, err := checkpointlog.HeadOf(before.Size, tree)
	if err == nil && then != before {
		err = fmt.Errorf("it forked: %s has %v, it had %v", v.keptName, before, then)
	}
	return before, err
}

// fetchLog gets a task's whole log, of as many entries as its newest head is over. What
// is in it is to be verified.
func fetchLog(ctx context.Context, service rpc.CheckpointServiceClient, task string) (*checkpointlog.File, error) {
	f, size := new(checkpointlog.File), 0
	for {
		reply, err := service.ListLog(ctx, &pb.ListLogRequest{Task: task, Start: uint64(len(f.Entries)), Limit: logPage})
		if err != nil {
			return nil, err
		}
		if n := len(reply.GetEntries()); n > logPage {
			return nil, fmt.Errorf("the log of task %s: a page of %d entries, want at most the %d that were asked for", task, n, logPage)
		}
		for _, entry := range reply.GetEntries() {
			size += len(entry)
		}
		if size > checkpointlog.MaxFileBytes {
			return nil, fmt.Errorf("the log of task %s has more than %d bytes", task, checkpointlog.MaxFileBytes)
		}
		f.LogKey, f.Credential, f.Head = reply.GetLogKey(), reply.GetLogCredential(), reply.GetHead()
		f.Entries = append(f.Entries, reply.GetEntries()...)
		if len(reply.GetEntries()) == 0 || headSize(f.Head) <= uint64(len(f.Entries)) {
			return f, nil
		}
	}
}

// headSize reads how many entries an unverified head is over, 0 where it does not say.
func headSize(head []byte) (size uint64) {
	if lines := strings.SplitN(string(head), "\n", 3); len(lines) == 3 {
		fmt.Sscanf(lines[1], "%d", &size) // 0 where it fails
	}
	return size
}

// findChanged asks a coordinator for proofs of growth until it is clear which entry is
// the first that the head was not signed over, and says so. Nil where it cannot tell.
func findChanged(ctx context.Context, service rpc.CheckpointServiceClient, task string, entries [][]byte, h checkpointlog.Head) error {
	request := &pb.GetLogProofRequest{Task: task, Size: h.Size}
	for _, raw := range [][]byte{entries[len(entries)-1], entries[0]} { // each proof is about some checkpoint too
		e, err := checkpointlog.DecodeEntry(raw)
		if err != nil {
			return nil
		}
		request.CheckpointSha256 = e.Checkpoint[:]
		if _, err = service.GetLogProof(ctx, request); err == nil {
			break // the other may be the entry that was changed
		}
	}
	tree := new(checkpointlog.Tree)
	for _, entry := range entries {
		tree.Add(entry)
	}
	var failed error
	first := sort.Search(len(entries), func(i int) bool {
		before, err := checkpointlog.HeadOf(uint64(i+1), tree)
		if err == nil {
			request.OldSize = before.Size
			var reply *pb.GetLogProofResponse
			if reply, err = service.GetLogProof(ctx, request); err == nil {
				return checkpointlog.VerifyConsistency(before, h, reply.GetConsistency()) != nil
			}
		}
		failed = err
		return true
	})
	if failed != nil || first == len(entries) {
		return nil
	}
	e, err := checkpointlog.DecodeEntry(entries[first])
	if err != nil {
		return nil
	}
	return fmt.Errorf("entry %d, of round %d, is not the one that was signed", first, e.Round)
}

// readKept reads a log that was exported, or a head alone.
func readKept(name string) (*checkpointlog.File, error) {
	f, err := readLogFile(name)
	if err == nil {
		return f, nil
	}
	head, readErr := os.ReadFile(name)
	if readErr != nil || len(head) > checkpointlog.MaxHeadBytes {
		return nil, fmt.Errorf("--head %s: %w", name, err)
	}
	return &checkpointlog.File{Head: head}, nil
}

// readLogFile reads what export wrote.
func readLogFile(name string) (*checkpointlog.File, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, checkpointlog.MaxFileBytes+1))
	if err != nil {
		return nil, err
	}
	return checkpointlog.DecodeFile(raw)
}

// readAuthority returns the public key of the CA whose certificate is in a PEM file:
// ca.pem, or an operator's credential.
func readAuthority(name string) (ed25519.PublicKey, error) {
	rest, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("the CA's certificate: %w", err)
	}
	for block := new(pem.Block); block != nil; {
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if key, ok := certificate.PublicKey.(ed25519.PublicKey); ok && certificate.IsCA {
			return key, nil
		}
	}
	return nil, fmt.Errorf("%s holds no certificate of a CA; name the ca.pem of the coordinator's folder with --ca", name)
}

// entryCount prints a number of entries.
func entryCount(n uint64) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}
