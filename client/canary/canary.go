// Package canary looks for planted words in what a device sends: a test plants
// words that occur nowhere else in chats, records every message that leaves, and
// asks this package whether one of them carries a trace. It is for the tests of
// this module and of programs that embed the client.
//
// Begin with [Log]: give its Interceptor to the client's DialOptions, and ask
// [Log.Leaks] and [Log.Shapes] afterwards. [Traces] is the search itself.
package canary

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Traces returns the forms in which a word of ASCII letters stands in data: as it
// is or in another case, as hexadecimal, or inside base64, at each of its three
// alignments, in the word's own, lower or upper case. None give nil.
func Traces(data []byte, word string) []string {
	var found []string
	note := func(form string, is bool) {
		if is {
			found = append(found, form)
		}
	}
	lower := bytes.ToLower(data)
	note("raw", bytes.Contains(data, []byte(word)))
	note("folded", bytes.Contains(lower, []byte(strings.ToLower(word))))
	for name, cased := range map[string]string{"": word, " of lower case": strings.ToLower(word), " of upper case": strings.ToUpper(word)} {
		note("hexadecimal"+name, bytes.Contains(lower, []byte(hex.EncodeToString([]byte(cased)))))
		for shift := range 3 {
			// Of the encoding at this alignment only the characters that the word alone
			// decides; the two alphabets agree on letters' encodings or not, so both.
			plain := append(make([]byte, shift), cased...)
			for alphabet, encoding := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
				inner := encoding.EncodeToString(plain)[(shift*8+5)/6 : len(plain)*8/6]
				note(fmt.Sprintf("%s%s at %d", alphabet, name, shift), bytes.Contains(data, []byte(inner)))
			}
		}
	}
	return found
}

// Shape describes a message by everything an onlooker who cannot break its masks and
// seals may compare: its type, its size, the value of each clear field and the
// length of each sealed one. Sealed are what package secagg makes: keys, shares,
// signatures, a commitment, and the masked vector with its hash.
func Shape(m proto.Message) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s of %d bytes", m.ProtoReflect().Descriptor().Name(), proto.Size(m))
	shape(&b, m.ProtoReflect())
	return b.String()
}

var sealed = map[protoreflect.FullName]bool{
	"discreet.v1.CheckInRequest.nonce_commitment": true,
	"discreet.v1.AdvertiseRequest.advert":         true,
	"discreet.v1.ShareRequest.shares":             true,
	"discreet.v1.ComplainRequest.complaint":       true,
	"discreet.v1.SubmitRequest.data":              true,
	"discreet.v1.SubmitRequest.sha256":            true,
	"discreet.v1.ConfirmRequest.confirm":          true,
	"discreet.v1.RevealRequest.reveal":            true,
}

func shape(b *strings.Builder, m protoreflect.Message) {
	fields := m.Descriptor().Fields() // in the order of the file, unlike Range
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case !m.Has(f):
		case sealed[f.FullName()]:
			fmt.Fprintf(b, " %s:%d bytes", f.Name(), len(m.Get(f).Bytes()))
		case f.Message() != nil && !f.IsList() && !f.IsMap():
			fmt.Fprintf(b, " %s:{", f.Name())
			shape(b, m.Get(f).Message())
			b.WriteString(" }")
		default:
			fmt.Fprintf(b, " %s:%v", f.Name(), m.Get(f))
		}
	}
	if unknown := m.GetUnknown(); len(unknown) > 0 {
		fmt.Fprintf(b, " unknown:%x", []byte(unknown))
	}
}

// Log keeps what a device sent. The zero value is empty and ready.
type Log struct {
	mu   sync.Mutex
	sent []sent
}

type sent struct {
	what   string // the method
	shape  string
	bytes  []byte // the message as it is on the wire below TLS
	header string // the call's own metadata
}

// Interceptor records every request and its metadata, each time it is sent.
func (l *Log) Interceptor() grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		if m, ok := request.(proto.Message); ok {
			header, _ := metadata.FromOutgoingContext(ctx)
			if err := l.add(method, m, header); err != nil {
				return err
			}
		}
		return invoke(ctx, method, request, reply, conn, options...)
	}
}

// Add records a message that was sent some other way.
func (l *Log) Add(m proto.Message) error {
	return l.add(string(m.ProtoReflect().Descriptor().Name()), m, nil)
}

func (l *Log) add(what string, m proto.Message, header metadata.MD) error {
	b, err := proto.Marshal(m)
	if err != nil {
		return fmt.Errorf("canary: %s: %w", what, err)
	}
	s := sent{what: what, shape: Shape(m), bytes: b}
	if len(header) > 0 {
		s.header = fmt.Sprint(map[string][]string(header)) // its own String hides values
		s.shape += " with " + s.header
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent = append(l.sent, s)
	return nil
}

// Leaks returns every trace of the words in what was sent, nil where there is none.
func (l *Log) Leaks(words ...string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var leaks []string
	for i, s := range l.sent {
		for _, word := range words {
			for _, form := range append(Traces(s.bytes, word), Traces([]byte(s.header), word)...) {
				leaks = append(leaks, fmt.Sprintf("message %d, %s: %s of %s", i, s.what, form, word))
			}
		}
	}
	return leaks
}

// Shapes returns the shape of every message, in the order they were sent.
func (l *Log) Shapes() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	shapes := make([]string, len(l.sent))
	for i, s := range l.sent {
		shapes[i] = s.shape
	}
	return shapes
}
