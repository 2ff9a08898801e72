package main

import (
	"fmt"

	"github.com/spf13/pflag"

	pb "github.com/discreet-fl/discreet/proto"
)

// keysFlag adds --keys, how devices agree on masks, to a command's flags.
func keysFlag(f *pflag.FlagSet, keys *pb.KeyExchange) {
	*keys = pb.KeyExchange_KEY_EXCHANGE_HYBRID
	f.Var((*keysValue)(keys), "keys", "how devices agree on masks: hybrid, which is post-quantum, or classical")
}

// keysValue is a key exchange as a flag.
type keysValue pb.KeyExchange

var keysNames = map[keysValue]string{
	keysValue(pb.KeyExchange_KEY_EXCHANGE_HYBRID):    "hybrid",
	keysValue(pb.KeyExchange_KEY_EXCHANGE_CLASSICAL): "classical",
}

func (k *keysValue) String() string { return keysNames[*k] }

func (k *keysValue) Set(name string) error {
	for value, known := range keysNames {
		if name == known {
			*k = value
			return nil
		}
	}
	return fmt.Errorf("%q, want hybrid or classical", name)
}

func (k *keysValue) Type() string { return "exchange" }
