//! Weights of layers: floats, or codes and tables that a decoder rebuilds just before the layer.

use slq_graph::Node;

use super::context::{Lowering, Lowers, Stored};
use crate::arrange::Arrangement;
use crate::model::{OperatorDef, Quantization, float_bytes};
use crate::report::{Packed, Unpacked};
use crate::schema::{Code, Element, Options};
use crate::tables::Tables;

impl Lowering<'_> {
    /// The tensor of a layer's weight (input `i`) in the order of axes that the layer reads, its values times `factor`.
    pub(super) fn weight(&mut self, node: &Node, i: usize, order: Arrangement, factor: f32) -> Lowers<usize> {
        let name = node.input(i).unwrap_or_default().to_string();
        let key = (format!("{name}*{factor}"), order.clone());
        if !self.stored.contains_key(&key) {
            let stored = self.store(node, i, &order, factor)?;
            self.stored.insert(key.clone(), stored);
        }
        let (codes, tables, several) = match &self.stored[&key] {
            Stored::Floats(tensor) => return Ok(*tensor),
            Stored::Codes { codes, tables, several } => (*codes, *tables, *several),
        };
        let output = self.model.add(&name, order.shape().to_vec(), Element::F32, None);
        self.model.tensors[output].quantization =
            several.map(|(count, axis)| Quantization::tables(count, axis));
        let inputs = vec![codes, tables];
        self.model.operators.push(OperatorDef {
            code: Code::Custom,
            inputs,
            outputs: vec![output],
            options: Options::default(),
        });
        Ok(output)
    }

    fn store(&mut self, node: &Node, i: usize, order: &Arrangement, factor: f32) -> Lowers<Stored> {
        let name = node.input(i).unwrap_or_default();
        let palette = self.graph.weights.get(name).and_then(|w| w.palette.as_ref());
        if let Some(palette) = palette.filter(|p| self.packed && p.is_fully_fixed()) {
            match Tables::of(palette, order, factor) {
                Ok(tables) => return Ok(self.store_codes(name, order, &tables)),
                Err(reason) => self.report.unpacked.push(Unpacked { weight: name.into(), reason }),
            }
        }
        let (values, _) = self.floats(node, i)?;
        let values: Vec<f32> = order.apply(&values).into_iter().map(|v| v * factor).collect();
        let (shape, data) = (order.shape().to_vec(), float_bytes(&values));
        Ok(Stored::Floats(self.model.add(name, shape, Element::F32, Some(data))))
    }

    fn store_codes(&mut self, name: &str, order: &Arrangement, made: &Tables) -> Stored {
        self.report.packed.push(Packed {
            weight: name.into(),
            bits: made.bits,
            tables: made.count,
            code_bytes: made.codes.len(),
            table_bytes: made.table_bytes(),
            float_bytes: 4 * order.shape().iter().product::<usize>(),
        });
        let ancillary = made.ancillary();
        let codes = self.model.add(
            &format!("{name}.codes"),
            vec![made.codes.len()],
            Element::U8,
            Some(made.codes.clone()),
        );
        let tables =
            self.model.add(&format!("{name}.tables"), vec![ancillary.len()], Element::U8, Some(ancillary));
        let several = (made.count > 1).then_some((made.count, made.axis));
        Stored::Codes { codes, tables, several }
    }
}
