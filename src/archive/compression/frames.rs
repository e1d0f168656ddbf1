//! Formats that are a row of frames, of which the libraries read one at a time.

use std::io::{self, BufRead, Read};

use lz4_flex::frame::FrameDecoder as Lz4Decoder;
use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

/// Unpacks zstd frames, passing over those that hold no data (RFC 8878, section 3.1.2).
pub struct ZstdFrames<R> {
    reader: R,
    frame: FrameDecoder,
    is_inside: bool,
}

impl<R: BufRead> ZstdFrames<R> {
    /// Frames with a larger window than so many bytes are refused.
    pub fn new(reader: R, max_window: u64) -> Self {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(max_window);
        Self { reader, frame, is_inside: false }
    }

    fn begin_frame(&mut self) -> io::Result<()> {
        use FrameDecoderError::ReadFrameHeaderError as Header;
        match self.frame.reset(&mut self.reader) {
            Ok(()) => self.is_inside = true,
            Err(Header(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                let skipped = io::copy(&mut (&mut self.reader).take(length.into()), &mut io::sink())?;
                if skipped < length.into() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Err(error) => return Err(io::Error::other(error)),
        }
        Ok(())
    }

    fn end_frame(&mut self) -> io::Result<()> {
        self.is_inside = false;
        match self.frame.get_checksum_from_data() {
            Some(sum) if self.frame.get_calculated_checksum() != Some(sum) => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "a frame with a wrong checksum"))
            }
            _ => Ok(()),
        }
    }
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.is_inside {
                if self.reader.fill_buf()?.is_empty() {
                    return Ok(0);
                }
                self.begin_frame()?;
                continue;
            }
            match self.frame.read(buffer)? {
                0 if buffer.is_empty() => return Ok(0),
                0 if self.frame.is_finished() => self.end_frame()?,
                0 => {
                    let one = BlockDecodingStrategy::UptoBlocks(1);
                    self.frame.decode_blocks(&mut self.reader, one).map_err(io::Error::other)?;
                }
                read => return Ok(read),
            }
        }
    }
}

/// Unpacks LZ4 frames.
pub struct Lz4Frames<R: Read> {
    /// One for each frame: the library's buffers are of the size that the first one asks for. `None` after an error.
    frame: Option<Lz4Decoder<Source<R>>>,
    is_inside: bool,
}

/// Tells an end of the input inside a frame from the end of the frame: to the library both are the end.
struct Source<R> {
    reader: R,
    has_ended: bool,
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.has_ended |= read == 0 && !buffer.is_empty();
        Ok(read)
    }
}

impl<R: BufRead> Lz4Frames<R> {
    pub fn new(reader: R) -> Self {
        Self { frame: Some(Lz4Decoder::new(Source { reader, has_ended: false })), is_inside: false }
    }
}

impl<R: BufRead> Read for Lz4Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(mut frame) = self.frame.take() else { return Err(io::ErrorKind::InvalidData.into()) };
            if !self.is_inside && frame.get_mut().reader.fill_buf()?.is_empty() {
                self.frame = Some(frame);
                return Ok(0);
            }
            self.is_inside = true;
            let read = frame.read(buffer)?;
            if read == 0 {
                let source = frame.into_inner();
                if source.has_ended {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.is_inside = false;
                frame = Lz4Decoder::new(source);
            }
            self.frame = Some(frame);
            if read > 0 {
                return Ok(read);
            }
        }
    }
}
