package mapping

import (
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// matchCost is what match costs: with the longest text and pattern it takes a tenth of a second or so.
const (
	matchFunction = "match"
	matchCost     = 20_000
)

// costs says what calls cost. CEL's own figures are by overload, and what reads dyn, as every expression here, is
// called without one being known: each call would cost 1, however long the texts.
type costs struct{}

// CallCost is 1, and 1 for every ten bytes of text that is read or made, and for every ten elements that are compared.
func (costs) CallCost(function, _ string, args []ref.Val, result ref.Val) *uint64 {
	compares := function == operators.Equals || function == operators.NotEquals || function == operators.In
	cost := uint64(1) + textSize(result)/10
	for _, arg := range args {
		cost += textSize(arg) / 10
		if sized, ok := arg.(traits.Sizer); ok && compares && textSize(arg) == 0 {
			if n, ok := sized.Size().(types.Int); ok {
				cost += uint64(n) / 10
			}
		}
	}
	if function == matchFunction {
		cost += matchCost
	}
	return &cost
}

func textSize(v ref.Val) uint64 {
	switch v := v.(type) {
	case types.String:
		return uint64(len(v))
	case types.Bytes:
		return uint64(len(v))
	}
	return 0
}
