package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/pflag"

	"github.com/discreet-fl/discreet/dataset"
	"github.com/discreet-fl/discreet/model"
	"github.com/discreet-fl/discreet/model/train"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/proto/rpc"
)

// uploadPage is how much of a checkpoint goes in one call.
const uploadPage = 512 << 10

// beginning is what a task begins with: the flags, and what they name.
type beginning struct {
	file, from string
	phrases    []dataset.Phrase
	checkpoint *model.Checkpoint // of --from
}

func (b *beginning) flags(f *pflag.FlagSet) {
	f.StringVar(&b.file, "warm-start", "", "file of phrases that the first checkpoint is trained on, here: they do not leave this machine")
	f.StringVar(&b.from, "from", "", "checkpoint file that the task goes on from; intents are known by their names")
}

// asked tells whether the task begins with anything.
func (b *beginning) asked() bool { return b.file != "" || b.from != "" }

// read opens what the flags name and returns their intents: those of the checkpoint,
// then those that only the phrases have.
func (b *beginning) read() (intents []string, err error) {
	if b.from != "" {
		if b.checkpoint, _, err = readCheckpoint(b.from); err != nil {
			return nil, fmt.Errorf("--from: %w", err)
		}
		intents = slices.Clone(b.checkpoint.Manifest.Labels)
	}
	if b.file == "" {
		return intents, nil
	}
	if b.phrases, err = readPhrases(b.file); err != nil {
		return nil, fmt.Errorf("--warm-start: %w", err)
	}
	known := make(map[string]bool)
	if b.checkpoint != nil {
		for name := range b.checkpoint.Manifest.Index() {
			known[name] = true
		}
	}
	for _, p := range b.phrases {
		if !known[p.Intent] {
			known[p.Intent] = true
			intents = append(intents, p.Intent)
		}
	}
	return intents, nil
}

// first makes the first checkpoint of a task and says on w what it did. It is the same
// for the same specification and files. Training ends when ctx does.
func (b *beginning) first(ctx context.Context, w io.Writer, spec *pb.TaskSpec) (*model.Checkpoint, error) {
	layout, err := model.NewLayout(spec.Model, len(spec.Intents))
	if err != nil {
		return nil, usageError{err}
	}
	first, err := model.NewCheckpoint(spec.Name, spec.Model, 0, spec.Intents, layout.Init(spec.Seed))
	if err != nil {
		return nil, usageError{err}
	}
	if b.checkpoint != nil {
		m := &b.checkpoint.Manifest
		if m.Size != spec.Model {
			return nil, usagef("--from %s is of model %s, want --model %s", b.from, m.Size, spec.Model)
		}
		if err := m.CheckTokeniser(); err != nil {
			return nil, fmt.Errorf("--from %s: %w", b.from, err)
		}
		if first, err = b.checkpoint.Begin(spec.Name, spec.Intents); err != nil {
			return nil, fmt.Errorf("--from %s: %w", b.from, err)
		}
		fresh := m.Intents().Onto(spec.Intents).New()
		fmt.Fprintf(w, "goes on from round %d of task %s, with %s of %d new\n", m.Round, m.Task, count(fresh, "intent"), len(spec.Intents))
		if m.TokeniserVersion != model.LatestTokeniser {
			fmt.Fprintf(w, "reads chats by version %d of the tokeniser, as that task; without --from it would be %d\n", m.TokeniserVersion, model.LatestTokeniser)
		}
	}
	return first, b.train(ctx, w, spec, first)
}

// train trains a first checkpoint, in place, on the phrases.
func (b *beginning) train(ctx context.Context, w io.Writer, spec *pb.TaskSpec, first *model.Checkpoint) error {
	if len(b.phrases) == 0 {
		return nil
	}
	index, examples := first.Manifest.Index(), make([]model.Example, len(b.phrases))
	for i, p := range b.phrases {
		label, ok := index[p.Intent]
		if !ok {
			return usagef("--warm-start %s: the phrase %q has the intent %q, which is not among the task's %d: add it to --intents", b.file, p.Text, p.Intent, len(spec.Intents))
		}
		examples[i] = model.Example{Features: first.Manifest.TokeniserVersion.Featurise(p.Text), Label: label}
	}
	settings, err := model.DefaultTraining(spec.Model)
	if err != nil {
		return err
	}
	done, err := train.Warm(first.Params, first.Manifest.Layout, examples, settings, spec.Seed, ctx.Err)
	if err != nil {
		return fmt.Errorf("--warm-start: %w", err)
	}
	fmt.Fprintf(w, "trained on %s in %d passes", count(len(examples), "phrase"), done.Epochs)
	if done.Held > 0 {
		fmt.Fprintf(w, "; of %d held back to choose them, %s were named rightly", done.Held, percent(done.Accuracy))
	}
	fmt.Fprintln(w)
	return nil
}

// upload brings a checkpoint file to the coordinator.
func upload(ctx context.Context, service rpc.OperatorServiceClient, raw []byte) error {
	sum := sha256.Sum256(raw)
	for at := 0; at < len(raw); {
		reply, err := service.UploadCheckpoint(ctx, &pb.UploadCheckpointRequest{
			Sha256: sum[:], TotalBytes: uint64(len(raw)), Offset: uint64(at), Data: raw[at:min(len(raw), at+uploadPage)],
		})
		if err != nil {
			return err
		}
		if got := reply.GetReceived(); got <= uint64(at) || got > uint64(len(raw)) {
			return fmt.Errorf("the coordinator has %d bytes of the first checkpoint, want more than %d and up to %d", got, at, len(raw))
		}
		at = int(reply.GetReceived())
	}
	return nil
}
