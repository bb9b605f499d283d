package verifier

import (
	"errors"
	"fmt"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
)

// MaxProofHashes is the largest number of hashes in a proof that is read. No tree of at
// most MaxTreeSize leaves needs more.
const MaxProofHashes = 64

// CheckInclusion checks that a leaf hash is at an index of the tree of a size and root
// (RFC 6962, section 2.1.1). The proof goes from the leaf's sibling up. An error matches
// [ErrFailed].
func CheckInclusion(index, size uint64, leaf Hash, proofHashes []Hash, root Hash) error {
	if size > MaxTreeSize || index >= size {
		return failedf("inclusion proof: index %d is not in a tree of size %d", index, size)
	}
	err := proof.VerifyInclusion(rfc6962.DefaultHasher, index, size, leaf[:], byteSlices(proofHashes), root[:])
	if err != nil {
		return failedf("inclusion proof: %w", merkleError(err))
	}
	return nil
}

// CheckConsistency checks that the tree of size first and root1 is a prefix of the tree of
// size second and root2 (RFC 6962, section 2.1.2). From size 0 and between equal sizes the
// proof is empty. An error matches [ErrFailed].
func CheckConsistency(first, second uint64, proofHashes []Hash, root1, root2 Hash) error {
	if second > MaxTreeSize || first > second {
		return failedf("consistency proof: size %d is not before size %d", first, second)
	}
	if first == 0 && root1 != EmptyRoot {
		return failedf("consistency proof: the empty tree has another root")
	}
	err := proof.VerifyConsistency(rfc6962.DefaultHasher, first, second, byteSlices(proofHashes), root1[:], root2[:])
	if err != nil {
		return failedf("consistency proof: %w", merkleError(err))
	}
	return nil
}

// merkleError says in one line what the library says in several.
func merkleError(err error) error {
	var mismatch proof.RootMismatchError
	if errors.As(err, &mismatch) {
		return fmt.Errorf("yields root %x, expected %x", mismatch.CalculatedRoot, mismatch.ExpectedRoot)
	}
	return err
}

// byteSlices views hashes as slices.
func byteSlices(hs []Hash) [][]byte {
	out := make([][]byte, len(hs))
	for i := range hs {
		out[i] = hs[i][:]
	}
	return out
}
