package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func (b *bench) write(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// copy copies a file over another.
func (b *bench) copy(from, to string) {
	b.t.Helper()
	data, err := os.ReadFile(filepath.Join(b.dir, from))
	if err != nil {
		b.t.Fatal(err)
	}
	b.write(to, string(data))
}

func TestWrongUseIsExplained(t *testing.T) {
	b := newBench(t)
	b.write("truncated.json", `{"train": [["hi", "greet"], ["bye`)
	b.write("train.csv", "text,intent\nhi,greet\nhello,greet\nbye,leave\nciao,leave\n")
	b.write("other.csv", "text,intent\nhi,greet\nwhat,unknown_label\n")
	b.write("noheader.csv", "hi,greet\nbye,leave\n")
	b.write("one.csv", "text,intent\nhi,greet\nhello,greet\nhey,greet\n")
	b.write("empty.yml", "nlu:\n- intent: greet\n  examples: |\n    - hi\n- intent: leave\n  examples: |\n")
	b.write("bad.ckpt", "not a checkpoint")
	for _, tc := range []struct {
		args string
		code int
		want string
	}{
		{"frobnicate", exitUsage, `"frobnicate" is not a command`},
		{"task frobnicate", exitUsage, `"frobnicate" is not a command of "discreet task"`},
		{"serve --prot 1", exitUsage, "unknown flag: --prot"},
		{"serve extra", exitUsage, "takes no arguments, got 1"},
		{"serve --listen 127.0.0.1:99999", exitFailed, "choose another address with --listen"},
		{"serve --log-level loud", exitUsage, `--log-level "loud", want debug, info, warn or error`},
		{"serve --memory 0", exitUsage, "--memory 0 MiB, want 1 or more"},
		{"serve --per-address 0", exitUsage, "--per-address 0, want 1 or more"},
		{"serve --grace -1s", exitUsage, "--grace -1s, want a positive duration"},
		{"serve --grace 5", exitUsage, `invalid argument "5" for "--grace" flag: want a duration with its unit, such as 24h`},
		{"serve --listen 7443", exitFailed, "choose another address with --listen: HOST:PORT, or :PORT"},
		{"serve --listen 127.0.0.1:0 --dir one.csv", exitFailed, "name a folder with --dir"},
		{"demo extra", exitUsage, "takes no arguments"},
		{"simulate --data missing.json", exitFailed, "--data: stat missing.json"},
		{"simulate --data train.csv --test missing.json", exitFailed, "--test: open missing.json"},
		{"simulate --data truncated.json", exitFailed, "truncated.json:1"},
		{"simulate --data noheader.csv", exitFailed, "noheader.csv:1"},
		{"simulate --data train.csv --test other.csv --devices 3 --per-round 3", exitFailed, "unknown_label"},
		{"simulate --split sideways", exitUsage, "sideways"},
		{"simulate --model huge", exitUsage, `model size "huge" is unknown: choose small or base`},
		{"simulate --per-round 99", exitUsage, "lower --per-round or raise --devices"},
		{"simulate --drop 2", exitUsage, "want a probability from 0 to 1"},
		{"simulate --personal --held-back 0", exitUsage, "raise --held-back"},
		{"simulate --test other.csv", exitUsage, "needs --data"},
		{"simulate --report no/such/folder/out.html", exitFailed, "no/such/folder"},
		{"simulate --report -", exitUsage, "want the path of a file"},
		{"simulate --report out --json ./out", exitUsage, "are the same file, want two"},
		{"simulate --json no/such/folder/out.json", exitFailed, "make its folder first"},
		{"simulate --json .", exitFailed, ". is a folder, want the path of a file"},
		{"task create x", exitUsage, "--intents is missing"},
		{"task create x --intents missing.txt", exitFailed, "missing.txt"},
		{"task create x --intents train.csv --corrupt 0.5", exitUsage, "--corrupt 0.5, want 0.0001 to 0.3333"},
		{"task create x --intents train.csv --dropout 0", exitUsage, "--dropout 0, want 0.0001 to 0.3333"},
		{"task create x --intents train.csv --personal --held-back 0", exitUsage, "raise --held-back"},
		{"task create x --intents train.csv --held-back 0.6", exitUsage, "--held-back 0.6, want 0, or 0.0001 to 0.5"},
		{"task create x --intents train.csv --held-back 0 --early-stop 3", exitUsage, "raise --held-back"},
		{"task create x --intents train.csv --unknown 0.7", exitUsage, "--unknown 0.7, want 0 to 0.5"},
		{"simulate --held-back 0.6", exitUsage, "a share of 0.6 held back, want 0, or 0.0001 to 0.5"},
		{"simulate --held-back 0.00001", exitUsage, "a share of 1e-05 held back, want 0, or 0.0001 to 0.5"},
		{"simulate --strategy qfedavg --compression 8x", exitUsage, "leave the bits out"},
		{"simulate --min-survivors 2", exitUsage, "a minimum of 2 survivors, want 3 to 20"},
		{"device forget x --server a", exitUsage, `"forget" is not a command of "discreet device"`},
		{"nope --server a", exitUsage, `"nope" is not a command of "discreet"`},
		{"device --server a", exitUsage, "unknown flag: --server"},
		{"task create x --per-round -4", exitUsage, `"-4" for "--per-round" flag: want a whole number of 0 or more`},
		{"task create x --per-round 99999999999", exitUsage, "and a smaller one"},
		{"simulate --drop x", exitUsage, `"x" for "--drop" flag: want a number`},
		{"simulate --json missing/out.json", exitFailed, "missing/out.json cannot be written: no such file or directory"},
		{"simulate --min-survivors -1", exitUsage, "a minimum of -1 survivors, want 3 to 20"},
		{"simulate --held-back 0 --unknown 0.1", exitUsage, "--unknown 0.1 and no chats held back"},
		{"simulate --held-back 0 --early-stop 3", exitUsage, "raise --held-back"},
		{"simulate --devices 0", exitUsage, "got 0 devices"},
		{"simulate --chats -1", exitUsage, "got -1 chats"},
		{"simulate --epsilon 8 --participations 17 --personal", exitUsage, "--personal does not go with --epsilon"},
		{"task create x --intents train.csv --epsilon 8 --personal", exitUsage, "--personal does not go with --epsilon"},
		{"task create x --intents train.csv --model huge", exitUsage, "choose small or base"},
		{"task create x --intents train.csv --per-round 2", exitUsage, "2 devices per round, want 3 to 20000"},
		{"task create x --intents train.csv --strategy median", exitUsage, "lower --cohort or raise --per-round"},
		{"task create X --intents train.csv", exitUsage, "want 1 to 64 of a-z, 0-9 and -"},
		{"task create x --intents train.csv --held-back 0 --unknown 0.1", exitUsage, "--unknown 0.1 and no chats held back"},
		{"task create x --intents train.csv --staleness 5", exitUsage, "--staleness 5 without --buffer"},
		{"simulate --staleness 5", exitUsage, "--staleness 5 without --buffer"},
		{"simulate --buffer 17", exitUsage, "--buffer 17, want 0 to 16\n"},
		{"simulate --buffer 1 --staleness 101", exitUsage, "discreet: --staleness 101, want 0 to 100"},
		{"task create x --intents one.csv", exitUsage, "--intents one.csv: it has 1 intent, want 2 to 4096"},
		{"task create x --warm-start one.csv", exitUsage, "--warm-start one.csv: it has 1 intent, want 2 to 4096"},
		{"task create x --intents empty.yml", exitFailed, `empty.yml:6: got intent "leave" with examples: and none below it`},
		{"simulate --data one.csv --test one.csv --devices 3", exitUsage, "the training phrases have 1 intents, want 2 to 4096: give --data"},
		{"task create x --intents train.csv --strategy=", exitUsage, "want one of fedavg"},
		{"task create x --intents train.csv --strategy median --per-round 1000 --cohort 3", exitUsage, "raise --cohort or lower --per-round"},
		{"simulate --compression part:1", exitUsage, `--compression "part:1": a compression to one row in 1, want 2 to 64`},
		{"simulate --compression part:2,bits:16", exitUsage, "want 4 to 15; leave the bits out for 16"},
		{"task intents rename support fax fax", exitUsage, `got the intent "fax" twice, want two names`},
		{"task intents add support", exitUsage, "\"discreet task intents add\" takes TASK INTENT..., got 1 argument\nrun \"discreet task intents add --help\" for its usage"},
		{"simulate --warm-start one.csv", exitFailed, "--warm-start: phrase \"hi\" has the intent \"greet\""},
		{"checkpoint export x f --round 3 --best", exitUsage, "choose one"},
		{"task create x --keys quantum", exitUsage, "want hybrid or classical"},
		{"task list", exitFailed, "name the operator.pem of the coordinator's folder with --operator"},
		{"task create x --intents train.csv --delta 1e-5", exitUsage, "--delta without --epsilon"},
		{"task create x --intents train.csv --epsilon 8 --held-back 0.1", exitUsage, "without noise"},
		{"task create x --intents train.csv --epsilon 8 --min-survivors 3 --per-round 40", exitUsage, "want a minimum of at least 5"},
		{"task create x --intents train.csv --epsilon -1", exitUsage, "privacy of ε -1"},
		{"simulate --epsilon 8 --participations 2 --per-round 20", exitUsage, "allow 17 participations"},
		{"task create x --intents train.csv --epsilon 4 --central-noise", exitUsage, "over 0 rounds, want 1 to 8192"},
		{"task create x --intents train.csv --central-noise", exitUsage, "--central-noise without --epsilon"},
		{"task create x --intents train.csv --clip-quantile 0.5", exitUsage, "--clip-quantile without --epsilon"},
		{"task create x --intents train.csv --epsilon 4 --clip-quantile 0.52", exitUsage, "--clip-quantile 0.52, want 0, or 0.05 to 0.95 in steps of 0.05"},
		{"simulate --epsilon 8 --participations 20 --clip-quantile 1", exitUsage, "--clip-quantile 1, want"},
		{"task create x --intents train.csv --epsilon 4 --clip-quantile 0.5 --buffer 2", exitUsage, "side by side"},
		{"task create x --intents train.csv --epsilon 4 --rounds 5 --central-noise --clip-quantile 0.5", exitUsage, "in units of their clip"},
		{"agent --max-epsilon -1", exitUsage, "--max-epsilon -1, want a positive number"},
		{"token create --expires -1h", exitUsage, "want a positive duration"},
		{"agent --min-survivors 2", exitUsage, "--min-survivors 2, want 3 to 2000"},
		{"agent --min-cohort 2", exitUsage, "--min-cohort 2, want 3 to 2000"},
		{"agent --min-corrupt 0.5", exitUsage, "--min-corrupt 0.5, want 0.0001 to 0.3333"},
		{"simulate --keys quantum", exitUsage, "want hybrid or classical"},
		{"simulate --chats 0", exitUsage, "got 0 chats for each device"},
		{"simulate --chats 5 --split user", exitUsage, "split iid or by dirichlet"},
		{"simulate --cohort 2", exitUsage, "cohorts of at most 2 devices"},
		{"agent join localhost:1", exitUsage, "takes 2 arguments (HOST:PORT TOKEN), got 1"},
		{"agent forget two words", exitUsage, "takes one CONVERSATION at most, got 2"},
		{"completion tcsh", exitUsage, `"tcsh" is not a command of "discreet completion"`},
		{"agent join --dir k localhost:1 nonsense", exitFailed, "discreet token create"},
		{"agent forget", exitUsage, "name one conversation, or say --all"},
		{"agent participation maybe", exitUsage, "want on or off"},
		{"classify --dir nowhere hello", exitFailed, "no device here"},
		{"classify --checkpoint bad.ckpt hello", exitFailed, "bad.ckpt"},
		{"classify --checkpoint missing.ckpt hello", exitFailed, "--checkpoint: open missing.ckpt"},
		{"classify --top 0 hello", exitUsage, "--top 0"},
		{"learn --intent greet", exitUsage, "give a TEXT with its --intent, or a --file"},
		{"learn --file missing.csv", exitFailed, "--file: open missing.csv"},
		{"agent join --dir k localhost:1 discreet1." + strings.Repeat("A", 64), exitFailed, "see that \"discreet serve\" runs there"},
		{"privacy plan --devices 1000 --rounds 50", exitUsage, "--epsilon is missing"},
		{"privacy plan --epsilon 4 --devices 1000 --rounds 50 --delta 0.01", exitUsage, "below 1/1000"},
		{"privacy convert --delta 1e-6", exitUsage, "give --rho or --epsilon"},
		{"checkpoint verify missing.ckpt --log log.txt", exitUsage, "--log and --ca go together"},
		{"checkpoint verify missing.ckpt", exitFailed, "missing.ckpt"},
		{"checkpoint verify bad.ckpt", exitFailed, "bad.ckpt"},
	} {
		_, errs, code := b.run(strings.Fields(tc.args)...)
		if code != tc.code || !strings.Contains(errs, tc.want) {
			t.Errorf("discreet %s: exit %d with %q, want exit %d with %q", tc.args, code, errs, tc.code, tc.want)
		}
	}
	b.must("learn", "--dir", "k", "hi", "--intent", "greet", "--conversation", "anna")
	if _, errs, code := b.run("serve", "--dir", "k", "--listen", "127.0.0.1:0"); code != exitUsage || !strings.Contains(errs, "k is a device's folder") || !strings.Contains(errs, "name a coordinator's with --dir") {
		t.Errorf("serve on a device's folder: exit %d with %q", code, errs)
	}
	for name, want := range map[string]string{"ann": "forgot 0 chats: none here is of a conversation that is named \"ann\"\n", "anna": "forgot 1 chat\n"} {
		if out := b.must("agent", "forget", "--dir", "k", name); out != want {
			t.Errorf("forgetting %s prints %q, want %q", name, out, want)
		}
	}
	if out, errs, code := b.run("task", "create", "x", "--warm-start", "train.csv"); out != "" || code != exitFailed || !strings.Contains(errs, "name the operator.pem") {
		t.Errorf("a warm start without a credential: exit %d with %q, and prints %q, want that it is said before anything is trained", code, errs, out)
	}
}

// TestAddressesInUse holds that only who names an address that is in use is told to stop what
// uses it.
func TestAddressesInUse(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	const other, use = "choose another address with --listen", "stop what uses it"
	if _, err := listenOn("--listen", listener.Addr().String()); err == nil || !strings.Contains(err.Error(), other) ||
		!strings.Contains(err.Error(), use) && runtime.GOOS != "windows" {
		t.Errorf("an address in use: %v", err)
	}
	if _, err := listenOn("--listen", "127.0.0.1:99999"); err == nil || !strings.Contains(err.Error(), other) || strings.Contains(err.Error(), use) {
		t.Errorf("a port that is none: %v", err)
	}
}

func TestInterruptedDemoLeavesNothingBehind(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("an interrupt cannot be sent to another process on Windows")
	}
	b := newBench(t)
	demo, _ := b.start([]string{"TMPDIR=" + b.dir}, "demo")
	if err := demo.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	<-demo.done
	if code, log := demo.cmd.ProcessState.ExitCode(), b.logged(); code != exitInterrupted || !strings.HasSuffix(log, "discreet: interrupted\n") {
		t.Errorf("exit %d with %q, want exit %d and a word about it", code, log, exitInterrupted)
	}
	if left, err := filepath.Glob(filepath.Join(b.dir, "discreet-demo-*")); len(left) > 0 || err != nil {
		t.Errorf("the demo left %v behind, %v", left, err)
	}
}

func TestHelpAndCompletion(t *testing.T) {
	b := newBench(t)
	for _, args := range []string{"", "--help", "help simulate", "demo --help", "serve --help", "agent --help", "agent join --help",
		"task create --help", "task", "completion bash", "completion zsh", "completion fish", "completion powershell"} {
		if out := b.must(strings.Fields(args)...); len(out) < 100 {
			t.Errorf("discreet %s prints %q", args, out)
		}
	}
}

// TestSimulatePrintsItsResult holds the fields that programs read, and that a run
// repeats, with masks and without.
func TestSimulatePrintsItsResult(t *testing.T) {
	b := newBench(t)
	args := "simulate --devices 12 --per-round 5 --rounds 2 --split dirichlet:0.5 --drop 0.2 --seed 7 --json -"
	digests := map[string]bool{}
	for _, secure := range []string{"true", "true", "false"} {
		out := b.must(append(strings.Fields(args), "--secure="+secure)...)
		var result map[string]any
		if err := json.Unmarshal([]byte(out), &result); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		for _, field := range []string{"accuracy", "macro_f1", "centralised_accuracy", "local_only_accuracy", "local_only_error",
			"local_only_devices", "parameters", "bytes_up_per_device", "seconds", "digest", "rounds"} {
			if result[field] == nil {
				t.Errorf("no field %q in %s", field, out)
			}
		}
		rounds, _ := result["rounds"].([]any)
		if len(rounds) != 2 {
			t.Fatalf("%d rounds in the result, want 2", len(rounds))
		}
		for _, field := range []string{"round", "accuracy", "participants", "survivors", "drops", "attempts", "masks_expanded", "seconds"} {
			if rounds[0].(map[string]any)[field] == nil {
				t.Errorf("no field %q in a round of %s", field, out)
			}
		}
		digests[fmt.Sprint(result["digest"])] = true
	}
	if len(digests) != 1 {
		t.Errorf("seed 7: the digests of two secure runs and a plain one are %v, want one", digests)
	}
}

func TestExportedShopIsReadBack(t *testing.T) {
	b := newBench(t)
	b.must("demo", "--export", "shop")
	out := b.must(strings.Fields("simulate --data shop/train.csv --test shop/test.csv --devices 60 --split user --per-round 5 --rounds 1 --json -")...)
	if !strings.Contains(out, `"devices": 60`) {
		t.Errorf("the exported customers are not sixty devices: %.200s", out)
	}
}
