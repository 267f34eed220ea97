// Reads what GitOps tools would say of Kubernetes objects, with the libraries that they use themselves: kstatus (kubectl-like waits, Helm),
// Flux's evaluator of healthCheckExprs, and the Lua interpreter in which Argo CD runs health scripts.
//
//	kstatus EXPRESSIONS.json HEALTH-FOLDER < objects.json
//
// objects.json is a list of {"name", "object"}; the answer is a list of {"name", "kstatus", "flux", "argo", "message"}.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type input struct {
	Name   string         `json:"name"`
	Object map[string]any `json:"object"`
}

type verdict struct {
	Name    string `json:"name"`
	Kstatus string `json:"kstatus"`
	Flux    string `json:"flux"`
	Argo    string `json:"argo"`
	Message string `json:"message"`
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "kstatus:", err)
	os.Exit(1)
}

// expressions maps "apiVersion/kind" to Flux's expressions, as in a Kustomization's spec.healthCheckExprs.
func expressions(path string) map[string]kustomize.HealthCheckExpressions {
	text, err := os.ReadFile(path)
	if err != nil {
		fail(err)
	}
	var list []kustomize.CustomHealthCheck
	if err := json.Unmarshal(text, &list); err != nil {
		fail(err)
	}
	found := map[string]kustomize.HealthCheckExpressions{}
	for _, check := range list {
		found[check.APIVersion+"/"+check.Kind] = check.HealthCheckExpressions
	}
	return found
}

func fluxSays(object *unstructured.Unstructured, known map[string]kustomize.HealthCheckExpressions) string {
	checks, ok := known[object.GetAPIVersion()+"/"+object.GetKind()]
	if !ok {
		return "no expressions"
	}
	evaluator, err := cel.NewStatusEvaluator(&checks)
	if err != nil {
		fail(err)
	}
	result, err := evaluator.Evaluate(context.Background(), object)
	if err != nil {
		return "error: " + err.Error()
	}
	return string(result.Status)
}

func toLua(state *lua.LState, value any) lua.LValue {
	switch v := value.(type) {
	case bool:
		return lua.LBool(v)
	case float64:
		return lua.LNumber(v)
	case int64:
		return lua.LNumber(v)
	case string:
		return lua.LString(v)
	case []any:
		table := state.NewTable()
		for _, item := range v {
			table.Append(toLua(state, item))
		}
		return table
	case map[string]any:
		table := state.NewTable()
		for key, item := range v {
			table.RawSetString(key, toLua(state, item))
		}
		return table
	}
	return lua.LNil
}

// argoSays runs HEALTH-FOLDER/<group>/<kind>/health.lua as Argo CD does: no libraries but base, table and string; the object is `obj`.
func argoSays(object *unstructured.Unstructured, folder string) (string, string) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable, lua.StringLibName: lua.OpenString} {
		state.Push(state.NewFunction(open))
		state.Push(lua.LString(name))
		state.Call(1, 0)
	}
	state.SetGlobal("obj", toLua(state, object.Object))
	gvk := object.GroupVersionKind()
	if err := state.DoFile(filepath.Join(folder, gvk.Group, gvk.Kind, "health.lua")); err != nil {
		return "error: " + err.Error(), ""
	}
	answer, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return "error: the script returns no table", ""
	}
	return answer.RawGetString("status").String(), answer.RawGetString("message").String()
}

func main() {
	if len(os.Args) != 3 {
		fail(fmt.Errorf("usage: kstatus EXPRESSIONS.json HEALTH-FOLDER < objects.json"))
	}
	known := expressions(os.Args[1])
	var inputs []input
	if err := json.NewDecoder(os.Stdin).Decode(&inputs); err != nil {
		fail(err)
	}
	verdicts := []verdict{}
	for _, in := range inputs {
		// Through the library's own decoder: integers must be int64.
		text, _ := json.Marshal(in.Object)
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(text); err != nil {
			fail(fmt.Errorf("%s: %w", in.Name, err))
		}
		result, err := status.Compute(object)
		if err != nil {
			fail(fmt.Errorf("%s: %w", in.Name, err))
		}
		v := verdict{Name: in.Name, Kstatus: string(result.Status), Flux: fluxSays(object, known)}
		v.Argo, v.Message = argoSays(object, os.Args[2])
		verdicts = append(verdicts, v)
	}
	if err := json.NewEncoder(os.Stdout).Encode(verdicts); err != nil {
		fail(err)
	}
}
