package store

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Chat is one message and what is known of its intent.
type Chat struct {
	Text         string    `json:"text"`
	Intent       string    `json:"intent"`
	Signal       string    `json:"signal,omitempty"`       // how the intent is known; the client's word
	Conversation string    `json:"conversation,omitempty"` // names the conversation or person for Forget; may be empty
	Time         time.Time `json:"-"`                      // when it was added, to the nanosecond
}

// chatFormat is that of the sealed chats written. Format 1, in which it does not stand, had no signal: its chats were all
// confirmed or corrected.
const chatFormat = 2

// sealedChat is a chat as it is sealed. Versions that read format 1 alone, to 0.2.0, see no
// signal and would train on every chat as one that was confirmed: the intent of a chat
// that was not confirmed or corrected stands in About, and they leave such a chat out, as
// every one whose intent they do not find.
type sealedChat struct {
	Format int `json:"format"`
	Chat
	About string `json:"about,omitempty"`
}

// sealed is how a chat is sealed.
func (c Chat) sealed() sealedChat {
	s := sealedChat{Format: chatFormat, Chat: c}
	if c.Signal != "" && c.Signal != "confirmed" && c.Signal != "corrected" {
		s.Intent, s.About = "", c.Intent
	}
	return s
}

// A chat's database key: time ‖ sequence ‖ conversation, the first two big-endian,
// so that the oldest chat comes first.
const chatKeySize = 8 + 8 + handleSize

func chatKey(at time.Time, sequence uint64, h handle) []byte {
	key := make([]byte, 0, chatKeySize)
	key = binary.BigEndian.AppendUint64(key, uint64(at.UnixNano()))
	key = binary.BigEndian.AppendUint64(key, sequence)
	return append(key, h[:]...)
}

// Add stores chats with the present time, all or none, and drops the oldest chats
// over the folder's bound. They are on disk when Add returns nil.
func (s *Store) Add(chats ...Chat) error {
	return s.update(func(tx *bolt.Tx) error {
		for _, c := range chats {
			if err := s.add(tx, c); err != nil {
				return err
			}
		}
		held, err := bump(tx, len(chats))
		if err != nil {
			return err
		}
		return s.dropOldest(tx, held-s.options.MaxChats)
	})
}

// add seals one chat under its conversation's key.
func (s *Store) add(tx *bolt.Tx, c Chat) error {
	plain, err := json.Marshal(c.sealed())
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	h := s.keys.handle(c.Conversation)
	key, err := s.dataKey(tx, h)
	if err != nil {
		return err
	}
	chats := tx.Bucket(chatsBucket)
	sequence, err := chats.NextSequence()
	if err != nil {
		return err
	}
	name := chatKey(addTime(chats), sequence, h)
	return chats.Put(name, seal(key, plain, name))
}

// addTime is the present time, or the latest chat's where the clock went back, as it
// does on a kiosk that starts without one: the oldest chat stays the first.
func addTime(chats *bolt.Bucket) time.Time {
	now := time.Now()
	last, _ := chats.Cursor().Last()
	if len(last) != chatKeySize {
		return now
	}
	if latest := time.Unix(0, int64(binary.BigEndian.Uint64(last))); now.Before(latest) {
		return latest
	}
	return now
}

// Chats returns every chat, oldest first.
func (s *Store) Chats() ([]Chat, error) {
	var all []Chat
	err := s.view(func(tx *bolt.Tx) error {
		keys := make(map[handle]*[keySize]byte)
		return tx.Bucket(chatsBucket).ForEach(func(name, sealed []byte) error {
			h, err := handleOf(name)
			if err != nil {
				return err
			}
			key := keys[h]
			if key == nil {
				if key, _, err = s.openKey(tx, h); err != nil {
					return err
				}
				keys[h] = key
			}
			c, err := openChat(key, name, sealed)
			if err != nil {
				return err
			}
			all = append(all, c)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("store: reading chats: %w", err)
	}
	return all, nil
}

func openChat(key *[keySize]byte, name, sealed []byte) (Chat, error) {
	plain, err := unseal(key, sealed, name)
	if err != nil {
		return Chat{}, err
	}
	var s sealedChat
	if err := json.Unmarshal(plain, &s); err != nil {
		return Chat{}, fmt.Errorf("a chat is %w: %w", ErrDamaged, err)
	}
	if s.Format > chatFormat {
		return Chat{}, fmt.Errorf("a chat has format %d, want at most %d: a newer version wrote it; use that one", s.Format, chatFormat)
	}
	c := s.Chat
	if s.Format < 2 {
		c.Signal = "confirmed"
	}
	if s.About != "" {
		c.Intent = s.About
	}
	c.Time = time.Unix(0, int64(binary.BigEndian.Uint64(name)))
	return c, nil
}

// Count returns the number of chats held.
func (s *Store) Count() (int, error) {
	n := 0
	err := s.view(func(tx *bolt.Tx) error {
		n = held(tx)
		return nil
	})
	return n, err
}

// Added returns how many chats were ever added, those included that have left since. It
// tells whether there are other chats than at an earlier time.
func (s *Store) Added() (uint64, error) {
	var n uint64
	err := s.view(func(tx *bolt.Tx) error {
		n = tx.Bucket(chatsBucket).Sequence()
		return nil
	})
	return n, err
}

// handleOf returns the conversation in a chat's database key.
func handleOf(name []byte) (handle, error) {
	if len(name) != chatKeySize {
		return handle{}, fmt.Errorf("a chat's key is %w: %d bytes, want %d", ErrDamaged, len(name), chatKeySize)
	}
	return handle(name[chatKeySize-handleSize:]), nil
}

// dropOldest drops so many of the oldest chats, and the data key of a
// conversation with its last chat.
func (s *Store) dropOldest(tx *bolt.Tx, drop int) error {
	if drop <= 0 {
		return nil
	}
	// Keys are collected first: a cursor does not survive a deletion.
	var names [][]byte
	cursor := tx.Bucket(chatsBucket).Cursor()
	for name, _ := cursor.First(); name != nil && len(names) < drop; name, _ = cursor.Next() {
		names = append(names, bytes.Clone(name))
	}
	for _, name := range names {
		h, err := handleOf(name)
		if err != nil {
			return err
		}
		if err := tx.Bucket(chatsBucket).Delete(name); err != nil {
			return err
		}
		if err := releaseKey(tx, h); err != nil {
			return err
		}
	}
	_, err := bump(tx, -len(names))
	return err
}

var heldField = []byte("chats held")

// held returns the number of chats; bump changes it and returns the new number.
func held(tx *bolt.Tx) int {
	if b := tx.Bucket(metaBucket).Get(heldField); len(b) == 8 {
		return int(binary.BigEndian.Uint64(b))
	}
	return 0
}

func bump(tx *bolt.Tx, by int) (int, error) {
	n := held(tx) + by
	return n, tx.Bucket(metaBucket).Put(heldField, binary.BigEndian.AppendUint64(nil, uint64(n)))
}

// A value in keysBucket: chats of the conversation, 4 bytes big-endian ‖ sealed data key.

// dataKey returns the conversation's data key, made where there is none, and
// counts one more chat under it.
func (s *Store) dataKey(tx *bolt.Tx, h handle) (*[keySize]byte, error) {
	key, count, err := s.openKey(tx, h)
	if err != nil {
		return nil, err
	}
	if key == nil {
		key = new([keySize]byte)
		rand.Read(key[:])
	}
	return key, putKey(tx, &s.keys, h, key, count+1)
}

// openKey returns the conversation's data key and its number of chats; nil where
// it has none.
func (s *Store) openKey(tx *bolt.Tx, h handle) (*[keySize]byte, uint32, error) {
	value := tx.Bucket(keysBucket).Get(h[:])
	if value == nil {
		return nil, 0, nil
	}
	if len(value) < 4 {
		return nil, 0, fmt.Errorf("a data key is %w: %d bytes", ErrDamaged, len(value))
	}
	plain, err := unseal(&s.keys.kek, value[4:], keyContext(h))
	if err != nil {
		return nil, 0, err
	}
	if len(plain) != keySize {
		return nil, 0, fmt.Errorf("a data key is %w: %d bytes, want %d", ErrDamaged, len(plain), keySize)
	}
	return (*[keySize]byte)(plain), binary.BigEndian.Uint32(value), nil
}

func putKey(tx *bolt.Tx, k *keyring, h handle, key *[keySize]byte, count uint32) error {
	value := binary.BigEndian.AppendUint32(nil, count)
	return tx.Bucket(keysBucket).Put(h[:], append(value, seal(&k.kek, key[:], keyContext(h))...))
}

// releaseKey counts one chat less under the conversation's key.
func releaseKey(tx *bolt.Tx, h handle) error {
	value := bytes.Clone(tx.Bucket(keysBucket).Get(h[:]))
	if len(value) < 4 {
		return fmt.Errorf("a data key is %w: %d bytes", ErrDamaged, len(value))
	}
	count := binary.BigEndian.Uint32(value) - 1
	if count == 0 {
		return tx.Bucket(keysBucket).Delete(h[:])
	}
	binary.BigEndian.PutUint32(value, count)
	return tx.Bucket(keysBucket).Put(h[:], value)
}

// keyContext is the additional data of a sealed data key.
func keyContext(h handle) []byte { return append([]byte("discreet/key/v1 "), h[:]...) }
