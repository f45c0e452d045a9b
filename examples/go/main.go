package main

import (
	inference "example.com/pulumi-coreweave-inference/sdk/go/coreweaveinference"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

func main() {
	pulumi.Run(func(ctx *pulumi.Context) error {
		training, err := inference.NewCapacityClaim(ctx, "training", &inference.CapacityClaimArgs{
			Resources: &inference.CapacityClaimResourcesArgs{
				InstanceId:    pulumi.String("gb200-4x"),
				InstanceCount: pulumi.Int(4),
				// order = allocation preference
				Zones: pulumi.ToStringArray([]string{"US-WEST-04A", "US-EAST-04A"}),
			},
		})
		if err != nil {
			return err
		}
		ctx.Export("claimId", training.ID())
		ctx.Export("status", training.Status)
		ctx.Export("zones", training.Resources.Zones())
		return nil
	})
}
