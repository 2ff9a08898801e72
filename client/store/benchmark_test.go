package store

import (
	"fmt"
	"testing"
)

// BenchmarkStore measures a folder of 10,000 chats in 100 conversations: reading all
// of them, as training does, and adding one more, synced to disk.
func BenchmarkStore(b *testing.B) {
	s, err := Open(b.TempDir(), Options{MaxChats: 10_000, MaxCheckpoint: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	s.db.NoSync = true
	add := func(i int) {
		if err := s.Add(Chat{Text: fmt.Sprint("where is my parcel, number ", i), Intent: "parcel", Conversation: fmt.Sprint(i % 100)}); err != nil {
			b.Fatal(err)
		}
	}
	for i := range 10_000 {
		add(i)
	}
	s.db.NoSync = false
	b.Run("read10000", func(b *testing.B) {
		for b.Loop() {
			if chats, err := s.Chats(); err != nil || len(chats) != 10_000 {
				b.Fatal(len(chats), err)
			}
		}
	})
	b.Run("add", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			add(i)
		}
	})
	b.Run("forget", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, err := s.Forget(fmt.Sprint(i % 100)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
