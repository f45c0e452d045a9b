// GPU capacity on CoreWeave: capacity claims of the inference API, reserved across an ordered list of zones.
package coreweaveinference
