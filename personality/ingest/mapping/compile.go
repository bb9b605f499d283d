package mapping

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/prooftrail/prooftrail/personality/ingest/foreign"
)

// An expression is one that has been compiled.
type expression struct {
	member  string // where it stands in the file
	program cel.Program
}

type compiler struct{ env *cel.Env }

// newCompiler makes the environment of expressions.
func newCompiler() (*compiler, error) {
	opts := []cel.EnvOption{
		cel.Variable("body", cel.DynType), cel.Variable("item", cel.DynType), cel.Variable("received", cel.TimestampType),
		cel.Variable("headers", cel.MapType(cel.StringType, cel.StringType)),
		cel.Variable("query", cel.MapType(cel.StringType, cel.StringType)),
		cel.OptionalTypes(), cel.CrossTypeNumericComparisons(true), cel.DefaultUTCTimeZone(true),
		cel.ParserExpressionSizeLimit(maxExpression), cel.ParserRecursionLimit(64),
		cel.ASTValidators(cel.ValidateComprehensionNestingLimit(maxNesting)),
	}
	std := env.NewLibrarySubset().AddExcludedFunctions(env.NewFunction("matches"))
	opts = append(opts, cel.StdLib(cel.StdLibSubset(std)))
	env, err := cel.NewCustomEnv(append(opts, functions()...)...)
	if err != nil {
		return nil, fmt.Errorf("mapping: %w", err)
	}
	return &compiler{env}, nil
}

// compile compiles the expression of a member.
func (c *compiler) compile(member, text string) (*expression, error) {
	ast, issues := c.env.Compile(text)
	if issues != nil && issues.Err() != nil {
		first := issues.Errors()[0]
		return nil, fmt.Errorf("%s: expected an expression of CEL; character %d: %s", member, first.Location.Column()+1, strings.TrimSpace(first.Message))
	}
	if out := ast.OutputType(); member == "when" && !out.IsAssignableType(cel.BoolType) && !out.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("when: expected an expression that is true or false, not %s", out)
	}
	program, err := c.env.Program(ast, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost), cel.CostTracking(costs{}),
		cel.InterruptCheckFrequency(interruptionSteps))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", member, err)
	}
	return &expression{member, program}, nil
}

// An EvalError is an expression that has failed on an item. Its text doesn't repeat what is in the item; Cause may.
type EvalError struct {
	Member   string // of the mapping file
	Expected string
	Cause    error
}

// Error says where it failed, and what would have done.
func (e *EvalError) Error() string { return e.Member + ": expected " + e.Expected }

// Unwrap returns what CEL said.
func (e *EvalError) Unwrap() error { return e.Cause }

// eval evaluates an expression; nil is that it yields nothing.
func (e *expression) eval(ctx context.Context, vars map[string]any) (ref.Val, error) {
	v, _, err := e.program.ContextEval(ctx, vars)
	if err != nil {
		expected := "an expression that doesn't fail on this item"
		switch text := err.Error(); {
		case ctx.Err() != nil, strings.Contains(text, "cost limit"):
			expected = "an expression that is done sooner with this item"
		case strings.Contains(text, "no such key"), strings.Contains(text, "no such attribute"):
			expected = "an item that has what the expression reads (a member that may not be there is read as .?name)"
		}
		return nil, &EvalError{e.member, expected, err}
	}
	if o, ok := v.(*types.Optional); ok {
		if !o.HasValue() {
			return nil, nil
		}
		v = o.GetValue()
	}
	if v.Type() == types.NullType {
		return nil, nil
	}
	return v, nil
}

// Functions beside those of CEL. What they make is no longer than what they are given, but for fixed sizes.
func functions() []cel.EnvOption {
	text := func(name string, f func(string) ref.Val, out *cel.Type) cel.EnvOption {
		return cel.Function(name, cel.Overload(name+"_string", []*cel.Type{cel.StringType}, out,
			cel.UnaryBinding(func(v ref.Val) ref.Val { return f(string(v.(types.String))) })))
	}
	return []cel.EnvOption{
		text("lower", func(s string) ref.Val { return types.String(strings.ToLower(s)) }, cel.StringType),
		text("token", func(s string) ref.Val { return types.String(foreign.Token(s, "unnamed")) }, cel.StringType),
		text("sha256", func(s string) ref.Val {
			sum := sha256.Sum256([]byte(s))
			return types.String(hex.EncodeToString(sum[:]))
		}, cel.StringType),
		cel.Function("clip", cel.Overload("clip_string_int", []*cel.Type{cel.StringType, cel.IntType}, cel.StringType, cel.BinaryBinding(clip))),
		cel.Function("action", cel.Overload("action_string_string", []*cel.Type{cel.StringType, cel.StringType}, cel.StringType,
			cel.BinaryBinding(func(prefix, name ref.Val) ref.Val {
				return types.String(foreign.Action(string(prefix.(types.String)), string(name.(types.String))))
			}))),
		cel.Function("split", cel.Overload("split_string_string", []*cel.Type{cel.StringType, cel.StringType}, cel.ListType(cel.StringType), cel.BinaryBinding(split))),
		cel.Function(matchFunction, cel.Overload("match_string_string", []*cel.Type{cel.StringType, cel.StringType}, cel.BoolType, cel.BinaryBinding(match))),
		cel.Function("json", cel.Overload("json_dyn", []*cel.Type{cel.DynType}, cel.StringType, cel.UnaryBinding(toJSON))),
		cel.Function("millis",
			cel.Overload("millis_int", []*cel.Type{cel.IntType}, cel.TimestampType, cel.UnaryBinding(millis)),
			cel.Overload("millis_double", []*cel.Type{cel.DoubleType}, cel.TimestampType, cel.UnaryBinding(millis))),
	}
}

func clip(s, n ref.Val) ref.Val {
	limit := n.(types.Int)
	if limit < 3 {
		return types.WrapErr(errors.New("clip: expected 3 or more bytes"))
	}
	return types.String(foreign.Clip(string(s.(types.String)), int(min(limit, maxRaw))))
}

const maxParts = 1000

func split(s, by ref.Val) ref.Val {
	if by.(types.String) == "" {
		return types.WrapErr(errors.New("split: expected a text to split by that isn't empty"))
	}
	return types.DefaultTypeAdapter.NativeToValue(strings.SplitN(string(s.(types.String)), string(by.(types.String)), maxParts))
}

// Limits of match, which stands in for CEL's matches: Go's regular expressions take time in proportion to the text and to the program that they
// become, and a{1000} is a long one.
const (
	maxMatched = 4096 // bytes of text
	maxPattern = 256  // bytes
	maxProgram = 2000 // instructions
)

func match(text, pattern ref.Val) ref.Val {
	s, p := string(text.(types.String)), string(pattern.(types.String))
	if len(s) > maxMatched || len(p) > maxPattern {
		return types.WrapErr(fmt.Errorf("match: expected at most %d bytes, and %d of the pattern", maxMatched, maxPattern))
	}
	parsed, err := syntax.Parse(p, syntax.Perl)
	if err != nil {
		return types.WrapErr(err)
	}
	if program, err := syntax.Compile(parsed.Simplify()); err != nil || len(program.Inst) > maxProgram {
		return types.WrapErr(fmt.Errorf("match: expected a pattern of at most %d instructions", maxProgram))
	}
	re, err := regexp.Compile(p)
	if err != nil {
		return types.WrapErr(err)
	}
	return types.Bool(re.MatchString(s))
}

func millis(v ref.Val) ref.Val {
	var ms int64
	switch v := v.(type) {
	case types.Int:
		ms = int64(v)
	case types.Double:
		ms = int64(v)
	}
	t := time.UnixMilli(ms).UTC()
	if !foreign.Sane(t) {
		return types.WrapErr(errors.New("millis: expected milliseconds since 1970, of a time from 2000 to 2199"))
	}
	return types.Timestamp{Time: t}
}
