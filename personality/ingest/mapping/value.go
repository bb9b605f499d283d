package mapping

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// toCEL makes of what foreign.ParseJSON read what expressions read: integers and doubles for numbers, and no members that
// are null, so that there is one way to ask whether one is there.
func toCEL(v any) any {
	switch v := v.(type) {
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i
		}
		f, err := v.Float64()
		if err != nil { // beyond a double
			return string(v)
		}
		return f
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, e := range v {
			if e != nil {
				out[name] = toCEL(e)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = toCEL(e)
		}
		return out
	}
	return v
}

var (
	errMany = errors.New("more values than an event can hold")
	errKind = errors.New("a value that JSON doesn't have")
)

// fromCEL makes of what an expression yields what foreign.ParseJSON would read. left is how many values more the
// item's expressions may yield.
func fromCEL(v ref.Val, left *int) (any, error) {
	if *left--; *left < 0 {
		return nil, errMany
	}
	switch v := v.(type) {
	case types.String:
		return string(v), nil
	case types.Bool:
		return bool(v), nil
	case types.Int:
		return json.Number(strconv.FormatInt(int64(v), 10)), nil
	case types.Uint:
		return json.Number(strconv.FormatUint(uint64(v), 10)), nil
	case types.Double:
		return double(float64(v)), nil
	case types.Bytes:
		return base64.StdEncoding.EncodeToString(v), nil
	case types.Timestamp:
		return v.UTC().Format(time.RFC3339Nano), nil
	case types.Duration:
		return v.String(), nil
	case types.Null:
		return nil, nil
	case *types.Optional:
		if !v.HasValue() {
			return nil, nil
		}
		return fromCEL(v.GetValue(), left)
	case traits.Mapper:
		return fromMap(v, left)
	case traits.Lister:
		return fromList(v, left)
	}
	return nil, errKind
}

// double writes a whole number as an integer, as JSON does not tell the two apart.
func double(f float64) any {
	if f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return json.Number(strconv.FormatInt(int64(f), 10))
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

func fromMap(v traits.Mapper, left *int) (any, error) {
	out := map[string]any{}
	for it := v.Iterator(); it.HasNext() == types.True; {
		key := it.Next()
		name, ok := key.(types.String)
		if !ok {
			return nil, errKind
		}
		e, err := fromCEL(v.Get(key), left)
		if err != nil {
			return nil, err
		}
		out[string(name)] = e
	}
	return out, nil
}

func fromList(v traits.Lister, left *int) (any, error) {
	out := []any{}
	for it := v.Iterator(); it.HasNext() == types.True; {
		e, err := fromCEL(it.Next(), left)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

// toJSON is the function json.
func toJSON(v ref.Val) ref.Val {
	left := maxValues
	plain, err := fromCEL(v, &left)
	if err != nil {
		return types.WrapErr(err)
	}
	text, err := json.Marshal(plain)
	if err != nil {
		return types.WrapErr(err)
	}
	return types.String(text)
}
