// Does Go's checksum database code read what writ publishes? tlog VKEY FOLDER PROOFS.json [WITNESS_VKEY]
package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type proof struct {
	Kind       string
	Checkpoint string
	Hashes     []string
	Leaf       string
	Seq, Old   int64
	Size       int64
}

func must(err error) {
	if err != nil {
		fmt.Println("not ok:", err)
		os.Exit(1)
	}
}

// tiles reads a tlog-tiles folder: the same tiles as sumdb's, without the height in their names.
type tiles struct {
	folder string
	read   int
}

func (t *tiles) Height() int { return 8 }

func (t *tiles) ReadTiles(want []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, w := range want {
		path := "tile/" + strings.TrimPrefix(w.Path(), "tile/8/")
		data, err := os.ReadFile(filepath.Join(t.folder, path))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
		t.read++
	}
	return all, nil
}

func (t *tiles) SaveTiles([]tlog.Tile, [][]byte) {}

// open verifies a checkpoint and gives its tree.
func open(text []byte, keys note.Verifiers) tlog.Tree {
	n, err := note.Open(text, keys)
	must(err)
	lines := strings.Split(n.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	must(err)
	root, err := base64.StdEncoding.DecodeString(lines[2])
	must(err)
	tree := tlog.Tree{N: size}
	copy(tree.Hash[:], root)
	return tree
}

// cosigner verifies C2SP tlog-cosignature v1 as one of note's own verifiers: its framework does the rest.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
	at   uint64
}

func newCosigner(vkey string) *cosigner {
	parts := strings.SplitN(vkey, "+", 3)
	raw, err := base64.StdEncoding.DecodeString(parts[2])
	must(err)
	if len(raw) != 33 || raw[0] != 4 {
		must(fmt.Errorf("no key of type 4"))
	}
	sum := sha256.Sum256([]byte(parts[0] + "\n" + string(raw)))
	c := &cosigner{name: parts[0], hash: binary.BigEndian.Uint32(sum[:4]), key: raw[1:]}
	if fmt.Sprintf("%08x", c.hash) != parts[1] {
		must(fmt.Errorf("the id of %s is %08x", vkey, c.hash))
	}
	return c
}

func (c *cosigner) Name() string    { return c.name }
func (c *cosigner) KeyHash() uint32 { return c.hash }

func (c *cosigner) Verify(msg, sig []byte) bool {
	if len(sig) != 8+64 {
		return false
	}
	c.at = binary.BigEndian.Uint64(sig)
	return ed25519.Verify(c.key, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", c.at, msg), sig[8:])
}

func entries(folder string, size int64) []tlog.Hash {
	var hashes []tlog.Hash
	for n := int64(0); int64(len(hashes)) < size; n++ {
		path := fmt.Sprintf("tile/entries/%03d", n)
		if size-n*256 < 256 {
			path += fmt.Sprintf(".p/%d", size-n*256)
		}
		data, err := os.ReadFile(filepath.Join(folder, path))
		must(err)
		for len(data) > 0 {
			k := int(data[0])<<8 | int(data[1])
			hashes = append(hashes, tlog.RecordHash(data[2:2+k]))
			data = data[2+k:]
		}
	}
	return hashes
}

func main() {
	verifier, err := note.NewVerifier(os.Args[1])
	must(err)
	keys := note.VerifierList(verifier)
	text, err := os.ReadFile(filepath.Join(os.Args[2], "checkpoint"))
	must(err)
	tree := open(text, keys)
	if len(os.Args) > 4 {
		witness := newCosigner(os.Args[4])
		n, err := note.Open(text, note.VerifierList(verifier, witness))
		must(err)
		if len(n.Sigs) != 2 || len(n.UnverifiedSigs) != 0 {
			must(fmt.Errorf("%d signatures hold, %d are unknown", len(n.Sigs), len(n.UnverifiedSigs)))
		}
		fmt.Printf("%s cosigned at %d\n", witness.name, witness.at)
	}
	source := &tiles{folder: os.Args[2]}
	reader := tlog.TileHashReader(tree, source) // checks each tile against the root
	leaves := entries(os.Args[2], tree.N)
	if int64(len(leaves)) != tree.N {
		must(fmt.Errorf("%d entries, the checkpoint says %d", len(leaves), tree.N))
	}
	for i, want := range leaves {
		got, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, int64(i))})
		must(err)
		if got[0] != want {
			must(fmt.Errorf("entry %d is not the one of its tile", i))
		}
	}
	fmt.Printf("%d entries in %d tile reads make the signed root\n", tree.N, source.read)

	var proofs []proof
	data, err := os.ReadFile(os.Args[3])
	must(err)
	must(json.Unmarshal(data, &proofs))
	for _, p := range proofs {
		t := open([]byte(p.Checkpoint), keys)
		var hashes []tlog.Hash
		for _, h := range p.Hashes {
			raw, err := base64.StdEncoding.DecodeString(h)
			must(err)
			var hash tlog.Hash
			copy(hash[:], raw)
			hashes = append(hashes, hash)
		}
		switch p.Kind {
		case "inclusion":
			leaf, err := hex.DecodeString(p.Leaf)
			must(err)
			var hash tlog.Hash
			copy(hash[:], leaf)
			must(tlog.CheckRecord(tlog.RecordProof(hashes), t.N, t.Hash, p.Seq, hash))
			if hash != leaves[p.Seq] {
				must(fmt.Errorf("record %d has another leaf hash", p.Seq))
			}
		case "consistency":
			old, err := tlog.TreeHash(p.Old, reader)
			must(err)
			must(tlog.CheckTree(tlog.TreeProof(hashes), t.N, t.Hash, p.Old, old))
		default:
			must(fmt.Errorf("a proof of kind %q", p.Kind))
		}
	}
	fmt.Printf("%d proofs hold\n", len(proofs))
}
