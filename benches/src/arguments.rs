//! What the benchmarks of models take: `small --device libtorch --rounds 7`, and numbers of their own.

use bpo::DeviceSpec;
use bpo::burn::tensor::{DType, FloatDType};
use bpo::model::LoadOptions;

use crate::contender::Contender;
use crate::shape::Preset;

/// What is measured on what.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// All of them, for a process that is started again.
    pub all: Vec<String>,
    /// Dimensions of the model.
    pub preset: Preset,
    /// Where ours runs.
    pub device: DeviceSpec,
    /// Type of weights and activations, of the peer too.
    pub dtype: FloatDType,
    /// How often each way is timed.
    pub rounds: usize,
    /// Set where the process is one of the contenders: what it does.
    pub way: Option<String>,
}

impl Arguments {
    /// Reads those of this process. `numbers` are the benchmark's own, by name.
    ///
    /// # Panics
    /// With what is wrong.
    pub fn read(numbers: &mut [(&str, &mut usize)]) -> Self {
        let all: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
        let mut read = Self {
            all: all.clone(),
            preset: Preset::Small,
            device: DeviceSpec::Flex,
            dtype: FloatDType::F32,
            rounds: 7,
            way: None,
        };
        let mut rest = all.iter();
        while let Some(name) = rest.next() {
            let mut value = || rest.next().unwrap_or_else(|| panic!("{name} wants a value"));
            let own = numbers.iter_mut().find(|(own, _)| name.strip_prefix("--") == Some(own));
            match (name.as_str(), own) {
                (_, Some((_, number))) => **number = value().parse().expect("a number"),
                ("--rounds", _) => read.rounds = value().parse().expect("a number"),
                ("--device", _) => read.device = value().parse().expect("a device"),
                ("--bf16", _) => read.dtype = FloatDType::BF16,
                ("--way", _) => read.way = Some(value().clone()),
                (preset, _) => read.preset = Preset::named(preset).unwrap_or_else(|error| panic!("{error}")),
            }
        }
        read
    }

    /// Those of a contender.
    pub fn with_way(&self, way: &str) -> Vec<String> {
        [self.all.as_slice(), &["--way".to_owned(), way.to_owned()]].concat()
    }

    /// Starts a script of `peers/` with what it is told and with our device and type; `None` without an interpreter, and for a device
    /// that torch does not have.
    pub fn peer(&self, script: &str, told: &[String]) -> Option<Contender> {
        let device = match self.device {
            DeviceSpec::Flex | DeviceSpec::LibTorch => "cpu".to_owned(),
            DeviceSpec::Cuda(index) | DeviceSpec::LibTorchCuda(index) => format!("cuda:{index}"),
            _ => return None,
        };
        let dtype = if self.dtype == FloatDType::BF16 { "bf16" } else { "f32" };
        Contender::python(script, &[told, &[device, dtype.to_owned()]].concat())
    }

    /// What is measured on what, in a line: `of` names the work.
    pub fn heading(&self, of: &str) -> String {
        let Self { preset, device, dtype, rounds, .. } = self;
        format!("{preset:?}, {of}, {device} {dtype:?}, {rounds} rounds")
    }

    /// Bytes of a value.
    pub fn size(&self) -> usize {
        DType::from(self.dtype).size()
    }

    /// How ours makes its model.
    pub fn options(&self) -> LoadOptions {
        LoadOptions::default().with_dtype(self.dtype)
    }
}
