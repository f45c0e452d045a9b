// An inline program of the Automation API: `inline STEP...` takes one stack through the steps, and prints a line
// of JSON after each.
//
// Environment: FOLDER, which has a Pulumi.yaml; TIMEOUT of the wait, 60s by default; IMPORT_ID, the claim of the
// step `import`; and the variables of the CLI and of the plugin.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"

	inference "example.com/pulumi-coreweave-inference/sdk/go/coreweaveinference"
	"github.com/pulumi/pulumi/sdk/v3/go/auto"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optup"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

const other = "urn:pulumi:test::inline::coreweave-inference:index:CapacityClaim::other"

type declaration struct {
	count    int
	zones    []string
	timeout  string
	imported string
	hasOther bool
}

type report struct {
	Step    string         `json:"step"`
	Changes map[string]int `json:"changes"`
	Outputs map[string]any `json:"outputs,omitempty"`
}

func (declared *declaration) program(ctx *pulumi.Context) error {
	training, err := inference.NewCapacityClaim(ctx, "training", &inference.CapacityClaimArgs{
		Resources: resources(declared.count, declared.zones),
		Readiness: &inference.ReadinessArgs{Timeout: pulumi.String(declared.timeout)},
	})
	if err != nil {
		return err
	}
	if declared.hasOther {
		_, err := inference.NewCapacityClaim(ctx, "other", &inference.CapacityClaimArgs{
			Resources: resources(0, declared.zones),
		})
		if err != nil {
			return err
		}
	}
	if declared.imported != "" {
		_, err := inference.NewCapacityClaim(ctx, "imported", &inference.CapacityClaimArgs{
			Name:      pulumi.String("imported"),
			Resources: resources(2, []string{"US-WEST-04A"}),
		}, pulumi.Import(pulumi.ID(declared.imported)))
		if err != nil {
			return err
		}
	}
	ctx.Export("claimId", training.ID())
	ctx.Export("status", training.Status)
	ctx.Export("allocated", training.AllocatedInstances)
	ctx.Export("zones", training.Resources.Zones())
	return nil
}

func resources(count int, zones []string) *inference.CapacityClaimResourcesArgs {
	return &inference.CapacityClaimResourcesArgs{
		InstanceId:    pulumi.String("gb200-4x"),
		InstanceCount: pulumi.Int(count),
		Zones:         pulumi.ToStringArray(zones),
	}
}

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, names []string) error {
	known := []string{"up", "refresh", "scale", "reorder", "import", "target", "destroy"}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return fmt.Errorf("usage: inline STEP..., of %v; not %s", known, name)
		}
	}
	folder, err := needed("FOLDER")
	if err != nil {
		return err
	}
	declared := &declaration{
		count:   4,
		zones:   []string{"US-WEST-04A", "US-EAST-04A"},
		timeout: cmp.Or(os.Getenv("TIMEOUT"), "60s"),
	}
	stack, err := auto.UpsertStackInlineSource(ctx, "test", "inline", declared.program, auto.WorkDir(folder))
	if err != nil {
		return err
	}
	for _, name := range names {
		done, err := declared.perform(ctx, stack, name)
		if err != nil {
			return err
		}
		done.Step = name
		if err := json.NewEncoder(os.Stdout).Encode(done); err != nil {
			return err
		}
	}
	return nil
}

func (declared *declaration) perform(ctx context.Context, stack auto.Stack, step string) (report, error) {
	var options []optup.Option
	switch step {
	case "refresh":
		done, err := stack.Refresh(ctx)
		return report{Changes: changes(done.Summary)}, err
	case "destroy":
		done, err := stack.Destroy(ctx)
		return report{Changes: changes(done.Summary)}, err
	case "scale":
		declared.count = 6
	case "reorder":
		slices.Reverse(declared.zones)
	case "import":
		id, err := needed("IMPORT_ID")
		if err != nil {
			return report{}, err
		}
		declared.imported = id
	case "target":
		declared.hasOther = true
		options = append(options, optup.Target([]string{other}))
	}
	done, err := stack.Up(ctx, options...)
	outputs := map[string]any{}
	for name, output := range done.Outputs {
		outputs[name] = output.Value
	}
	return report{Changes: changes(done.Summary), Outputs: outputs}, err
}

func changes(summary auto.UpdateSummary) map[string]int {
	if summary.ResourceChanges == nil {
		return nil
	}
	return *summary.ResourceChanges
}

func needed(variable string) (string, error) {
	value := os.Getenv(variable)
	if value == "" {
		return "", fmt.Errorf("%s is not set", variable)
	}
	return value, nil
}
