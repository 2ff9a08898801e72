package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/discreet-fl/discreet/aggregation"
	"github.com/discreet-fl/discreet/client"
	"github.com/discreet-fl/discreet/dataset"
	"github.com/discreet-fl/discreet/model"
	"github.com/discreet-fl/discreet/model/train"
	pb "github.com/discreet-fl/discreet/proto"
	"github.com/discreet-fl/discreet/secagg"
	"github.com/discreet-fl/discreet/simulate"
)

// personalSettings are what personal parts are measured with.
type personalSettings struct {
	data, size, split string
	devices, perRound int
	rounds, swaps     int
	heldBack          uint // chats in 10,000 that judge
	seed              uint64
}

// owner is a device with its chats: those it trains on, those that judge, and those that
// nobody trains on or judges by.
type owner struct {
	number           int
	own, held, aside []model.Example
}

// way is one way to make a personal model. It returns all parameters of an owner's.
type way struct {
	name string
	make func(t *train.Trainer, c *model.Checkpoint, o owner) ([]float32, error)
}

// runPersonal measures, on chats from the training part of a data set, ways to make a
// device's own model of the shared one.
func runPersonal(args []string) error {
	set := flag.NewFlagSet("personal", flag.ContinueOnError)
	s := &personalSettings{}
	set.StringVar(&s.data, "data", "", "file or folder of phrases; empty is the embedded shop")
	set.StringVar(&s.size, "model", "small", "small or base")
	set.StringVar(&s.split, "split", "dirichlet:0.5", "how phrases are dealt: iid, dirichlet:ALPHA or user")
	set.IntVar(&s.devices, "devices", 100, "devices that the training phrases are dealt to")
	set.IntVar(&s.perRound, "per-round", 20, "devices in a round")
	set.IntVar(&s.rounds, "rounds", 50, "rounds to run")
	set.IntVar(&s.swaps, "swaps", 0, "pairs of intents that each device's people take for one another")
	set.UintVar(&s.heldBack, "held-back", 1000, "chats in 10,000 that a device holds back to judge by")
	set.Uint64Var(&s.seed, "seed", 1, "seed of everything")
	if err := set.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if err := s.run(); err != nil {
		return fmt.Errorf("personal: %w", err)
	}
	return nil
}

// run trains the shared model and prints a row for each way.
func (s *personalSettings) run() error {
	owners, config, err := s.deal()
	if err != nil {
		return err
	}
	result, err := simulate.Run(context.Background(), *config)
	if err != nil {
		return err
	}
	c, err := model.DecodeCheckpoint(result.Checkpoint)
	if err != nil {
		return err
	}
	fmt.Println("| way | shared | personal | better of two | devices it answers on | of them better | worse |\n|---|---|---|---|---|---|---|")
	for _, w := range ways {
		if err := s.measure(w, c, owners); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	fedPer, err := s.fedPer(c, owners)
	if err != nil {
		return fmt.Errorf("FedPer: %w", err)
	}
	return s.measure(*fedPer, c, owners)
}

// deal gives each device its chats, and the simulation those that are trained on or held back.
func (s *personalSettings) deal() ([]owner, *simulate.Config, error) {
	phrases := dataset.Shop()
	var err error
	if s.data != "" {
		if phrases, err = dataset.Open(s.data, "", s.seed); err != nil {
			return nil, nil, err
		}
	}
	how, err := dataset.ParseSplit(s.split)
	if err != nil {
		return nil, nil, err
	}
	dealt, err := phrases.Split(how, s.devices, s.seed)
	if err != nil {
		return nil, nil, err
	}
	config := &simulate.Config{
		Train: make([][]dataset.Phrase, len(dealt)), Test: phrases.Test, Intents: phrases.Intents,
		PerRound: s.perRound, Cohort: min(s.perRound, 1000), MinSurvivors: secagg.MinCohort, Keys: pb.KeyExchange_KEY_EXCHANGE_HYBRID,
		Rounds: s.rounds, Model: s.size, Drop: 0.1, Seed: s.seed, NoBaselines: true, HeldBack: float64(s.heldBack) / model.HeldBackOf,
	}
	owners := make([]owner, len(dealt))
	for i, chats := range dealt {
		owners[i].number = i
		var all []model.Example
		for _, p := range s.swap(chats, phrases.Intents, i) {
			e := model.Example{Features: model.LatestTokeniser.Featurise(p.Text), Label: slices.Index(phrases.Intents, p.Intent)}
			if simulate.SetAside(e.Features) {
				owners[i].aside = append(owners[i].aside, e)
				continue
			}
			all, config.Train[i] = append(all, e), append(config.Train[i], p)
		}
		owners[i].own, owners[i].held = client.HoldBack(all, uint32(s.heldBack))
	}
	return owners, config, nil
}

// swap lets a device's people take some intents for one another.
func (s *personalSettings) swap(chats []dataset.Phrase, intents []string, device int) []dataset.Phrase {
	random := rand.New(rand.NewPCG(s.seed, uint64(device)))
	other := make(map[string]string)
	for range s.swaps {
		if len(chats) == 0 {
			break
		}
		a, b := chats[random.IntN(len(chats))].Intent, intents[random.IntN(len(intents))]
		if other[a] == "" && other[b] == "" {
			other[a], other[b] = b, a
		}
	}
	out := slices.Clone(chats)
	for i := range out {
		if to := other[out[i].Intent]; to != "" {
			out[i].Intent = to
		}
	}
	return out
}

// measure prints how a way does: the mean over the devices of the accuracy on the chats set
// aside.
func (s *personalSettings) measure(w way, c *model.Checkpoint, owners []owner) error {
	var devices, answers, better, worse int
	var shared, personal, best float64
	scores := make([][3]float64, len(owners)) // shared, personal, whether the latter answers
	err := each(c.Manifest.Layout, s.size, len(owners), func(t *train.Trainer, i int) error {
		o := owners[i]
		params, err := w.make(t, c, o)
		if err != nil {
			return err
		}
		of := func(params []float32, ex []model.Example) (loss float64, right int) {
			return lossOn(&model.Checkpoint{Manifest: c.Manifest, Params: params}, ex)
		}
		p := model.Personal{Output: params, Held: len(o.held)}
		p.SharedLoss, p.SharedRight = of(c.Params, o.held)
		p.OwnLoss, p.OwnRight = of(params, o.held)
		_, a := of(c.Params, o.aside)
		_, b := of(params, o.aside)
		scores[i] = [3]float64{float64(a) / float64(len(o.aside)), float64(b) / float64(len(o.aside)), 0}
		if p.Better() {
			scores[i][2] = 1
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, x := range scores {
		if len(owners[i].aside) == 0 {
			continue
		}
		devices++
		shared, personal = shared+x[0], personal+x[1]
		if x[2] == 0 {
			best += x[0]
			continue
		}
		answers++
		best += x[1]
		if x[1] > x[0] {
			better++
		} else if x[1] < x[0] {
			worse++
		}
	}
	n := float64(devices)
	fmt.Printf("| %s | %.2f%% | %.2f%% | %.2f%% | %d of %d | %d | %d |\n", w.name, 100*shared/n, 100*personal/n, 100*best/n, answers, devices, better, worse)
	return nil
}

// lossOn is a model's mean cross-entropy on examples and how many it names rightly.
func lossOn(c *model.Checkpoint, ex []model.Example) (loss float64, right int) {
	classifier := model.NewClassifier(c)
	for _, e := range ex {
		shares := classifier.Probabilities(e.Features)
		loss -= math.Log(max(float64(shares[e.Label]), 1e-12)) / float64(len(ex))
		if slices.Index(shares, slices.Max(shares)) == e.Label {
			right++
		}
	}
	return loss, right
}

// each does something for each of n devices, on all cores, with a trainer a core.
func each(l model.Layout, size string, n int, do func(t *train.Trainer, i int) error) error {
	settings, err := model.DefaultTraining(size)
	if err != nil {
		return err
	}
	var group errgroup.Group
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		group.Go(func() error {
			t, err := train.New(l, settings.Batch)
			for i := w; i < n && err == nil; i += workers {
				err = do(t, i)
			}
			return err
		})
	}
	return group.Wait()
}

// ways are those that need nothing but the shared model.
var ways = []way{
	{"output layer, as devices do", func(t *train.Trainer, c *model.Checkpoint, o owner) ([]float32, error) {
		p, err := train.Personalise(c, o.own, o.held, 7)
		params := slices.Clone(c.Params)
		copy(c.Manifest.Layout.Output(params), p.Output)
		return params, err
	}},
	{"output layer, without counts", tuned(true, 0.1, 0.1)},
	{"the same, λ 0", tuned(true, 0.1, 0)},
	{"the same, λ 0.3", tuned(true, 0.1, 0.3)},
	{"the same, λ 1, rate 0.3", tuned(true, 0.3, 1)},
	{"all parameters, without counts", tuned(false, 0.1, 0.1)},
	{"bias by the intents' counts", func(_ *train.Trainer, c *model.Checkpoint, o owner) ([]float32, error) {
		params, counts := slices.Clone(c.Params), make([]float64, c.Manifest.Layout.Labels)
		for _, e := range o.own {
			counts[e.Label]++
		}
		_, _, bias := c.Manifest.Layout.Split(params)
		mean := float64(len(o.own)) / float64(len(counts))
		for i, n := range counts {
			bias[i] += float32(0.5 * math.Log((n+1)/(mean+1)))
		}
		return params, nil
	}},
}

// tuned trains on from the shared model, held back towards it.
func tuned(output bool, rate, lambda float32) func(*train.Trainer, *model.Checkpoint, owner) ([]float32, error) {
	return func(t *train.Trainer, c *model.Checkpoint, o owner) ([]float32, error) {
		settings, err := model.DefaultTraining(c.Manifest.Size)
		if err != nil {
			return nil, err
		}
		if settings.LearningRate, settings.Proximal = rate, lambda; output {
			settings.Rows = make([]bool, c.Manifest.Layout.Rows)
		}
		params := slices.Clone(c.Params)
		_, err = t.Train(params, o.own, settings, 7)
		return params, err
	}
}

// fedPer runs the rounds again with the embedding alone sent (Arivazhagan et al. 2019,
// "Federated learning with personalization layers"): every device has had an output layer of its
// own from its first round on, under which the embedding is trained. The server takes the same steps.
func (s *personalSettings) fedPer(c *model.Checkpoint, owners []owner) (*way, error) {
	l := c.Manifest.Layout
	settings, err := model.DefaultTraining(s.size)
	if err != nil {
		return nil, err
	}
	params, outputs := l.Init(s.seed), make([][]float32, len(owners))
	size := len(params) - len(l.Output(params))
	server := aggregation.Choice{}.Strategy(s.perRound)
	state := make([]float32, server.State(size))
	full := settings.LearningRate
	for r := range s.rounds {
		settings.LearningRate = full * (1 - 0.9*float32(r)/float32(max(s.rounds-1, 1)))
		members := rand.New(rand.NewPCG(s.seed, uint64(r))).Perm(len(owners))[:s.perRound]
		trained := make([][]float32, len(members))
		err := each(l, s.size, len(members), func(t *train.Trainer, i int) error {
			own := slices.Clone(params)
			copy(l.Output(own), outputs[members[i]])
			trained[i] = own
			_, err := t.Train(own, owners[members[i]].own, settings, uint64(r))
			return err
		})
		if err != nil {
			return nil, err
		}
		mean := make([]float32, size)
		for i, own := range trained {
			outputs[members[i]] = slices.Clone(l.Output(own))
			for j := range mean {
				mean[j] += (own[j] - params[j]) / float32(len(trained))
			}
		}
		if err := server.Step(params[:size], state, mean); err != nil {
			return nil, err
		}
	}
	return &way{"FedPer", func(_ *train.Trainer, _ *model.Checkpoint, o owner) ([]float32, error) {
		own := slices.Clone(params)
		copy(l.Output(own), outputs[o.number])
		return own, nil
	}}, nil
}
