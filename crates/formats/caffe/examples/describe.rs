//! Prints the graph of a prototxt and its caffemodel: `describe NET.prototxt [NET.caffemodel] [train]`.

use slq_caffe::{Phase, ReadOptions, read_net};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let net = args.first().ok_or("usage: describe NET.prototxt [NET.caffemodel] [train]")?;
    let model = args.iter().find(|a| a.ends_with(".caffemodel"));
    let phase = if args.iter().any(|a| a == "train") { Phase::Train } else { Phase::Test };
    let found = read_net(net.as_ref(), model.map(AsRef::as_ref), &ReadOptions::new(phase))?;
    for node in &found.graph.nodes {
        println!("{:<20} {:<24} {:?} -> {:?}", node.op, node.name, node.inputs, node.outputs);
    }
    println!("inputs {:?}", found.graph.inputs);
    println!("outputs {:?}", found.graph.outputs);
    println!("{} parameters", found.graph.parameter_count());
    println!("{:#?}", found.info);
    Ok(())
}
