//! A component with a scratch directory, and its ways out of it.
#![expect(unsafe_code, reason = "the exports of a component are C functions")]

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit/step", world: "remit:step/step", generate_all });
}

use std::{fs, io, io::Write, path::Path};

use bindings::{
    exports::remit::step::main::{End, Guest},
    remit::step::types::Failure,
};

struct Scratch;
bindings::export!(Scratch with_types_in bindings);

impl Guest for Scratch {
    fn describe() -> String {
        r#"{"input":{"type":"string"},"output":{}}"#.to_owned()
    }

    fn run(input: String) -> Result<String, End> {
        let text = input.trim_matches('"');
        let (name, argument) = text.split_once(' ').unwrap_or((text, ""));
        match act(name, argument) {
            Ok(text) => Ok(format!("{text:?}")),
            Err(error) => {
                Err(End::Failed(Failure { message: format!("{:?}: {error}", error.kind()), fields: vec![] }))
            }
        }
    }
}

fn act(name: &str, argument: &str) -> io::Result<String> {
    match name {
        "loop" => loop {
            std::hint::spin_loop();
        },
        "write-read" => {
            fs::create_dir("/scratch/dir")?;
            fs::write("/scratch/dir/file", argument)?;
            fs::rename("/scratch/dir/file", "/scratch/moved")?;
            fs::read_to_string("/scratch/moved")
        }
        "read" => fs::read_to_string(argument),
        "list" => {
            let names =
                fs::read_dir(argument)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            Ok(names.collect::<io::Result<Vec<_>>>()?.join(" "))
        }
        "hard-link" => {
            fs::write("/scratch/a", "a")?;
            fs::hard_link("/scratch/a", "/scratch/b").map(|()| String::new())
        }
        "symlink" => {
            #[expect(deprecated, reason = "the one portable call that makes a symbolic link")]
            fs::soft_link(argument, "/scratch/link")?;
            fs::read_to_string("/scratch/link")
        }
        "rename-out" => {
            fs::write("/scratch/a", "a")?;
            fs::rename("/scratch/a", argument).map(|()| String::new())
        }
        "fill" => {
            let mut file = fs::File::create("/scratch/big")?;
            fill(&mut file, argument)
        }
        // The bytes of a file that was removed while it is open count on.
        "fill-removed" => {
            let mut file = fs::File::create("/scratch/ghost")?;
            fs::remove_file("/scratch/ghost")?;
            fill(&mut file, argument)
        }
        "set-length" => {
            let length = argument.parse().map_err(io::Error::other)?;
            fs::File::create("/scratch/sparse")?.set_len(length).map(|()| String::new())
        }
        "many-files" => {
            let count: usize = argument.parse().map_err(io::Error::other)?;
            (0..count).try_for_each(|n| fs::write(Path::new("/scratch").join(n.to_string()), ""))?;
            Ok(String::new())
        }
        // More is written than the limit in sum, never at once.
        "rewrite" => {
            let times: usize = argument.parse().map_err(io::Error::other)?;
            for _ in 0..times {
                fs::write("/scratch/again", vec![b'x'; 300 << 10])?;
                fs::remove_file("/scratch/again")?;
            }
            Ok(String::new())
        }
        _ => Err(io::Error::other("no such act")),
    }
}

fn fill(file: &mut fs::File, mebibytes: &str) -> io::Result<String> {
    let count: usize = mebibytes.parse().map_err(io::Error::other)?;
    let block = vec![b'x'; 1 << 20];
    (0..count).try_for_each(|_| file.write_all(&block))?;
    Ok(String::new())
}
